"""The grid is exact, and a fold's decision never comes from the fold itself."""

import itertools

import numpy as np
import pytest

from cxr import metrics
from stage3_stack import thresholds
from stage3_stack.config import GridConfig
from stage3_stack.thresholds import PLAIN, Counts, Decision, best, counted, dices, drawn, gains, level, nested, overall

SIZE = 32
GRID = GridConfig(tops=[0.5, 0.8], least_areas=[0, 9216, 61440], bottoms=[0.2, 0.5, 0.6], gates=[0.5, 0, 0.3])


def images(count: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps uint8 [n, 32, 32], masks of 0 or 1 (a third of them empty), and probabilities."""
    draw = np.random.default_rng(seed)
    maps = draw.integers(0, 256, (count, SIZE, SIZE)).astype(np.uint8)
    maps[::4] //= 3
    masks = (maps + draw.normal(0, 60, maps.shape) > draw.integers(120, 400, (count, 1, 1))).astype(np.uint8)
    masks[::3] = 0
    return maps, masks, draw.choice([0.1, 0.3, 0.45, 0.5, 0.9], count)


def counts_of(maps: np.ndarray, masks: np.ndarray) -> Counts:
    above, overlap = zip(*map(counted, maps, masks), strict=True)
    return Counts(np.array(above), np.array(overlap), masks.sum((1, 2)).astype(np.int64), SIZE)


def final(decision: Decision, found: np.ndarray, prob: float) -> np.ndarray:
    """The mask of one image, by the words of the definition; areas are of a 1024x1024 image."""
    enough = (found / 255 > decision.top).sum() >= decision.least_area / (1024 / SIZE) ** 2
    return (found / 255 > decision.bottom) & enough & (prob >= decision.gate)


def every(grid: GridConfig) -> list[Decision]:
    return [Decision(*values) for values in itertools.product(grid.tops, grid.least_areas, grid.bottoms, grid.gates)]


def test_counts_are_those_of_the_pixels():
    maps, masks, _ = images(3)
    counts = counts_of(maps, masks)
    for at in (0, 1, 127, 254, 255):
        np.testing.assert_array_equal(counts.above[:, at], (maps > at).sum((1, 2)))
        np.testing.assert_array_equal(counts.overlap[:, at], ((maps > at) & (masks > 0)).sum((1, 2)))


@pytest.mark.parametrize("score", [0, 0.2, 0.4, 0.5, 0.6, 0.8, 0.999])
def test_a_level_is_passed_just_where_the_score_is(score):
    pixels = np.arange(256)
    np.testing.assert_array_equal(pixels > level(score), pixels > round(score * 255, 9))


def test_every_decision_scores_as_its_masks_do():
    maps, masks, prob = images()
    counts = counts_of(maps, masks)
    total = gains(counts, prob, GRID)
    floor = (masks.sum((1, 2)) == 0).sum()
    drew = set()
    for decision in every(GRID):
        brute = [final(decision, *image) for image in zip(maps, prob, strict=True)]
        expected = [metrics.dice(*pair) for pair in zip(masks, brute, strict=True)]
        np.testing.assert_allclose(dices(decision, counts, prob), expected)
        place = (
            GRID.gates.index(decision.gate), GRID.tops.index(decision.top),
            GRID.least_areas.index(decision.least_area), GRID.bottoms.index(decision.bottom),
        )  # fmt: skip
        assert total[place] + floor == pytest.approx(sum(expected))
        drew.add(int(drawn(decision, counts, prob).sum()))
    assert len(drew) > 5  # the decisions do differ


def test_the_best_is_as_good_as_any_but_for_luck():
    maps, masks, prob = images()
    counts = counts_of(maps, masks)
    scores = {decision: dices(decision, counts, prob).sum() for decision in every(GRID)}
    assert scores[overall(counts, prob, GRID)] >= max(scores.values()) - thresholds.NEAR


def test_of_equal_decisions_the_most_central_is_taken():
    grid = GridConfig(tops=[0.1, 0.2, 0.3, 0.4, 0.5], least_areas=[0], bottoms=[0.5], gates=[0])
    total = np.array([0, 10, 10, 10, 0], float).reshape(1, 5, 1, 1)
    assert best(total, grid).top == 0.3


def test_a_groups_own_truth_does_not_change_its_decision():
    maps, masks, prob = images(60)
    group = np.arange(60) % 3
    found = nested(counts_of(maps, masks), prob, group, GRID)
    changed = masks.copy()
    changed[group == 1] = 1 - changed[group == 1]
    again = nested(counts_of(maps, changed), prob, group, GRID)
    assert again[1] == found[1]
    assert (again[0], again[2]) != (found[0], found[2])


def test_a_groups_decision_is_the_best_of_the_others():
    maps, masks, prob = images(60)
    counts, group = counts_of(maps, masks), np.arange(60) % 3
    for key, decision in nested(counts, prob, group, GRID).items():
        assert decision == overall(counts[group != key], prob[group != key], GRID)


def test_a_single_group_is_judged_without_choosing():
    maps, masks, prob = images(6)
    assert nested(counts_of(maps, masks), prob, np.zeros(6, int), GRID) == {0: PLAIN}


def test_a_grid_of_thousands_on_thousands_of_images_is_quick():
    draw = np.random.default_rng(0)
    above = np.sort(draw.integers(0, 5000, (3000, 256)), axis=1)[:, ::-1].astype(np.int32)
    counts = Counts(above, above // 2, draw.integers(0, 5000, 3000) * (draw.random(3000) < 0.2), 512)
    grid = GridConfig(
        tops=np.linspace(0.3, 0.95, 12).tolist(), least_areas=list(range(0, 8000, 1000)),
        bottoms=np.linspace(0.1, 0.8, 12).tolist(), gates=np.linspace(0, 0.8, 17).tolist(),
    )  # fmt: skip
    assert gains(counts, draw.random(3000), grid).shape == (17, 12, 8, 12)
