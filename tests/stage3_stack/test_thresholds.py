"""The grid is exact, and a fold's decision never comes from the fold itself."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from cxr import metrics
from stage3_stack import thresholds
from stage3_stack.components import kept, pieces, pruned
from stage3_stack.config import GridConfig
from stage3_stack.thresholds import (
    PLAIN,
    Counts,
    Cut,
    Decision,
    best,
    counted,
    cuts,
    dices,
    drawn,
    gains,
    level,
    nested,
    overall,
)  # fmt: skip

SIZE = 32
GRID = GridConfig(
    tops=[0.5, 0.8], least_areas=[0, 36, 240], bottoms=[0.2, 0.6], gates=[0.5, 0, 0.3],
    label_gates=[0, 0.6], least_components=[4, 0], reference_size=64,
)  # fmt: skip
EIGHT = np.ones((3, 3))  # neighbours


def images(count: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps uint8 [n, 32, 32], masks of 0 or 1 (a third of them empty), and probabilities."""
    draw = np.random.default_rng(seed)
    maps = draw.integers(0, 256, (count, SIZE, SIZE)).astype(np.uint8)
    maps[::4] //= 3
    masks = (maps + draw.normal(0, 60, maps.shape) > draw.integers(120, 400, (count, 1, 1))).astype(np.uint8)
    masks[::3] = 0
    return maps, masks, draw.choice([0.1, 0.3, 0.45, 0.5, 0.9], count)


def counts_of(maps: np.ndarray, masks: np.ndarray, grid: GridConfig = GRID) -> Counts:
    above, overlap = zip(*map(counted, maps, masks), strict=True)
    stays = np.array([kept(*pair, cuts(grid)) for pair in zip(maps, masks, strict=True)])
    return Counts(
        np.array(above), np.array(overlap), masks.sum((1, 2)).astype(np.int64), heads(len(maps)),
        np.array(list(map(pieces, maps))), {cut: stays[:, k] for k, cut in enumerate(cuts(grid))}, SIZE,
    )  # fmt: skip


def heads(count: int) -> np.ndarray:
    return np.resize([0.6, 0.2, 0.9, 0.55, 1.0], count)


def final(decision: Decision, found: np.ndarray, prob: float, head: float) -> np.ndarray:
    """The mask of one image, by the words of the definition; areas are of a 64x64 image, four times these pixels."""
    mask = found / 255 > decision.bottom
    numbers, count = ndimage.label(mask, EIGHT)
    for number in range(1, count + 1):
        if (numbers == number).sum() * 4 < decision.least_component:
            mask[numbers == number] = False
    enough = (found / 255 > decision.top).sum() * 4 >= decision.least_area
    return mask & enough & (prob >= decision.gate) & (head >= decision.label_gate)


def every(grid: GridConfig) -> list[Decision]:
    lists = (grid.tops, grid.least_areas, grid.bottoms, grid.gates, grid.label_gates, grid.least_components)
    return [Decision(*values, grid.reference_size) for values in itertools.product(*lists)]


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
        brute = [final(decision, *image) for image in zip(maps, prob, heads(40), strict=True)]
        expected = [metrics.dice(*pair) for pair in zip(masks, brute, strict=True)]
        np.testing.assert_allclose(dices(decision, counts, prob), expected)
        place = (
            GRID.gates.index(decision.gate), GRID.label_gates.index(decision.label_gate),
            GRID.tops.index(decision.top), GRID.least_areas.index(decision.least_area),
            GRID.bottoms.index(decision.bottom), GRID.least_components.index(decision.least_component),
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
    total = np.array([0, 10, 10, 10, 0], float).reshape(1, 1, 5, 1, 1, 1)
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


def test_a_fixed_grid_is_the_published_decision_whatever_it_scores():
    maps, masks, prob = images()
    fixed = GridConfig(tops=[0.75], least_areas=[200], bottoms=[0.4], gates=[0.6], reference_size=544)
    expected = Decision(0.75, 200, 0.4, 0.6, 0, 0, 544)
    counts = counts_of(maps, masks, fixed)
    assert overall(counts, prob, fixed) == expected
    for groups in (np.zeros(40, int), np.arange(40) % 2):
        assert set(nested(counts, prob, groups, fixed).values()) == {expected}


def test_least_area_is_of_the_reference_size():
    maps = np.zeros((1, SIZE, SIZE), np.uint8)
    maps[0, :5, :5] = 255
    counts = counts_of(maps, maps)
    for reference, least in ((32, 25), (64, 100), (544, 7225)):
        at = Decision(0.5, least, 0.5, 0, reference_size=reference)
        assert drawn(at, counts, np.ones(1)).all()
        assert not drawn(at._replace(least_area=least + 1), counts, np.ones(1)).any()


def test_without_label_heads_no_gate_on_them_closes():
    maps, masks, prob = images(5)
    counts = replace(counts_of(maps, masks), head=np.full(5, np.nan))
    closed = Decision(0.5, 0, 0.2, 0, label_gate=0.9)
    np.testing.assert_array_equal(dices(closed, counts, prob), dices(closed._replace(label_gate=0), counts, prob))


def test_small_parts_are_dropped_one_by_one_and_the_rest_stays_as_it_was():
    found = np.full((SIZE, SIZE), 20, np.uint8)
    found[2:4, 2:4], found[10:13, 10:13], found[13, 13] = 200, 150, 150  # 4 pixels; 9 and one more across a corner
    kept_map = pruned(found, Cut(0.5, 20, 64))
    assert (kept_map > 127).sum() == 10
    assert (kept_map[2:4, 2:4] == 0).all()
    assert (np.delete(kept_map, [2, 3], axis=0) == np.delete(found, [2, 3], axis=0)).all()
    assert pieces(found) == 2
    assert pruned(found, Cut(0.5, 0, 64)) is found
    assert not (pruned(found, Cut(0.5, 41, 64)) > 127).any()


def test_a_grid_of_thousands_on_thousands_of_images_is_quick():
    draw = np.random.default_rng(0)
    above = np.sort(draw.integers(0, 5000, (3000, 256)), axis=1)[:, ::-1].astype(np.int32)
    truth = draw.integers(0, 5000, 3000) * (draw.random(3000) < 0.2)
    counts = Counts(above, above // 2, truth, np.full(3000, np.nan), truth, {}, 512)
    grid = GridConfig(
        tops=np.linspace(0.3, 0.95, 12).tolist(), least_areas=list(range(0, 8000, 1000)),
        bottoms=np.linspace(0.1, 0.8, 12).tolist(), gates=np.linspace(0, 0.8, 17).tolist(),
    )  # fmt: skip
    assert gains(counts, draw.random(3000), grid).shape == (17, 1, 12, 8, 12, 1)
