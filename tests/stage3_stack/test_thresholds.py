"""A decision draws what its words say, and a fold's decision never comes from the fold itself."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from cxr.imaging.geometry import Letterbox
from evaluation import metrics
from stage3_stack.config import Config, DenseConfig, GridConfig
from stage3_stack.postprocessing.components import count_components, drop_small_components
from stage3_stack.postprocessing.final_masks import kept_component_areas
from stage3_stack.postprocessing.nested_choice import NestedPostprocessing, choose_postprocessing
from stage3_stack.postprocessing.nesting import HeldOutImages
from stage3_stack.postprocessing.search import search_thresholds, select_best_params
from stage3_stack.postprocessing.search_axes import build_axes
from stage3_stack.postprocessing.thresholds import (
    PLAIN_PARAMS,
    LevelHistograms,
    MaskRule,
    PostprocessingParams,
    dice_per_image,
    has_mask,
    histogram_above_levels,
    level_to_score,
    list_component_rules,
    score_to_level,
)

SIZE = 32
GRID = GridConfig(
    top_score_thresholds=[0.5, 0.8], min_areas=[0, 36, 240], bottom_score_thresholds=[0.2, 0.6],
    probability_thresholds=[0.5, 0, 0.3], label_head_thresholds=[0, 0.6], min_component_areas=[4, 0], reference_size=64,
)  # fmt: skip
EIGHT = np.ones((3, 3))  # neighbours
BOX = Letterbox(SIZE, SIZE, SIZE)


def images(count: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps uint8 [n, 32, 32], masks of 0 or 1 (a third of them empty), and probabilities."""
    draw = np.random.default_rng(seed)
    maps = draw.integers(0, 256, (count, SIZE, SIZE)).astype(np.uint8)
    maps[::4] //= 3
    masks = (maps + draw.normal(0, 60, maps.shape) > draw.integers(120, 400, (count, 1, 1))).astype(np.uint8)
    masks[::3] = 0
    return maps, masks, draw.choice([0.1, 0.3, 0.45, 0.5, 0.9], count)


def counts_of(maps: np.ndarray, masks: np.ndarray, grid: GridConfig = GRID) -> LevelHistograms:
    above, overlap = zip(*map(histogram_above_levels, maps, masks), strict=True)
    stays = np.array(
        [
            kept_component_areas(found, mask > 0, list_component_rules(grid), BOX)
            for found, mask in zip(maps, masks, strict=True)
        ]
    )
    return LevelHistograms(
        np.array(above), np.array(overlap), masks.sum((1, 2)).astype(np.int64), heads(len(maps)),
        np.array(list(map(count_components, maps))),
        {cut: stays[:, k] for k, cut in enumerate(list_component_rules(grid))}, np.full(len(maps), SIZE**2),
    )  # fmt: skip


def heads(count: int) -> np.ndarray:
    return np.resize([0.6, 0.2, 0.9, 0.55, 1.0], count)


def final(decision: PostprocessingParams, found: np.ndarray, prob: float, head: float) -> np.ndarray:
    """The mask of one image, by the words of the definition; areas are of a 64x64 image, four times these pixels."""
    mask = found / 255 > decision.bottom_score_threshold
    numbers, count = ndimage.label(mask, EIGHT)
    for number in range(1, count + 1):
        if (numbers == number).sum() * 4 < decision.min_component_area:
            mask[numbers == number] = False
    enough = (found / 255 > decision.top_score_threshold).sum() * 4 >= decision.min_area
    return mask & enough & (prob >= decision.probability_threshold) & (head >= decision.label_head_threshold)


def every(grid: GridConfig) -> list[PostprocessingParams]:
    lists = (
        grid.top_score_thresholds,
        grid.min_areas,
        grid.bottom_score_thresholds,
        grid.probability_thresholds,
        grid.label_head_thresholds,
        grid.min_component_areas,
    )
    return [PostprocessingParams(*values, grid.reference_size) for values in itertools.product(*lists)]


def test_counts_are_those_of_the_pixels():
    maps, masks, _ = images(3)
    counts = counts_of(maps, masks)
    for at in (0, 1, 127, 254, 255):
        np.testing.assert_array_equal(counts.area_above[:, at], (maps > at).sum((1, 2)))
        np.testing.assert_array_equal(counts.overlap_above[:, at], ((maps > at) & (masks > 0)).sum((1, 2)))


@pytest.mark.parametrize("score", [0, 0.2, 0.4, 0.5, 0.6, 0.8, 0.999])
def test_a_level_is_passed_just_where_the_score_is(score):
    pixels = np.arange(256)
    np.testing.assert_array_equal(pixels > score_to_level(score), pixels > round(score * 255, 9))


def test_a_level_as_a_score_of_three_digits_is_that_level_again():
    scores = [level_to_score(at) for at in range(256)]
    assert [score_to_level(score) for score in scores] == list(range(256))
    assert max(len(str(score)) for score in scores) <= 5


def test_every_decision_scores_as_its_masks_do():
    maps, masks, prob = images()
    counts, drew = counts_of(maps, masks), set()
    for decision in every(GRID):
        brute = [final(decision, *image) for image in zip(maps, prob, heads(40), strict=True)]
        expected = [metrics.dice_of_masks(*pair) for pair in zip(masks, brute, strict=True)]
        np.testing.assert_allclose(dice_per_image(decision, counts, prob), expected)
        drew.add(int(has_mask(decision, counts, prob).sum()))
    assert len(drew) > 5  # the decisions do differ


def taken(counts: LevelHistograms, prob: np.ndarray, grid: GridConfig) -> PostprocessingParams:
    return select_best_params(search_thresholds(counts, prob, build_axes(grid, prob)))


def nested(
    counts: LevelHistograms, prob: np.ndarray, group: np.ndarray, grid: GridConfig = GRID, **asked
) -> NestedPostprocessing:
    config = Config(dense=DenseConfig(steps=1), grid=grid, **asked)
    labels = (counts.truth_area > 0).astype(float)
    return choose_postprocessing(HeldOutImages("fold", group, counts, prob, labels), config)


EXACT = GridConfig(
    top_score_thresholds="exact",
    min_areas="exact",
    bottom_score_thresholds="exact",
    probability_thresholds={"quantiles": 4},
)


@pytest.mark.parametrize("grid", [GRID, EXACT])
def test_a_groups_own_truth_and_probability_do_not_change_its_decision(grid):
    maps, masks, prob = images(60)
    group = np.arange(60) % 3
    found = nested(counts_of(maps, masks, grid), prob, group, grid).group_params
    changed, moved = masks.copy(), prob.copy()
    changed[group == 1] = 1 - changed[group == 1]
    moved[group == 1] = 1 - moved[group == 1]
    again = nested(counts_of(maps, changed, grid), moved, group, grid).group_params
    assert again[1] == found[1]
    assert (again[0], again[2]) != (found[0], found[2])


def test_a_groups_decision_is_the_best_of_the_others():
    maps, masks, prob = images(60)
    counts, group = counts_of(maps, masks), np.arange(60) % 3
    for key, decision in nested(counts, prob, group).group_params.items():
        assert decision == taken(counts[group != key], prob[group != key], GRID)


@pytest.mark.parametrize("grid", [GRID, EXACT])
def test_a_single_group_is_judged_without_choosing(grid):
    maps, masks, prob = images(6)
    assert nested(counts_of(maps, masks, grid), prob, np.zeros(6, int), grid).group_params == {0: PLAIN_PARAMS}


def test_a_fixed_grid_is_the_published_decision_whatever_it_scores():
    maps, masks, prob = images()
    fixed = GridConfig(
        top_score_thresholds=[0.75],
        min_areas=[200],
        bottom_score_thresholds=[0.4],
        probability_thresholds=[0.6],
        reference_size=544,
    )
    expected = PostprocessingParams(0.75, 200, 0.4, 0.6, 0, 0, 544)
    counts = counts_of(maps, masks, fixed)
    for groups in (np.zeros(40, int), np.arange(40) % 2):
        found = nested(counts, prob, groups, fixed)
        assert {found.test_params, *found.group_params.values()} == {expected}


def test_least_area_is_of_the_reference_size():
    maps = np.zeros((1, SIZE, SIZE), np.uint8)
    maps[0, :5, :5] = 255
    counts = counts_of(maps, maps)
    for reference, least in ((32, 25), (64, 100), (544, 7225)):
        at = PostprocessingParams(0.5, least, 0.5, 0, reference_size=reference)
        assert has_mask(at, counts, np.ones(1)).all()
        assert not has_mask(at._replace(min_area=least + 1), counts, np.ones(1)).any()


def test_without_label_heads_no_gate_on_them_closes():
    maps, masks, prob = images(5)
    counts = replace(counts_of(maps, masks), label_head_prob=np.full(5, np.nan))
    closed = PostprocessingParams(0.5, 0, 0.2, 0, label_head_threshold=0.9)
    np.testing.assert_array_equal(
        dice_per_image(closed, counts, prob), dice_per_image(closed._replace(label_head_threshold=0), counts, prob)
    )


def test_small_parts_are_dropped_one_by_one_and_the_rest_stays_as_it_was():
    found = np.full((SIZE, SIZE), 20, np.uint8)
    found[2:4, 2:4], found[10:13, 10:13], found[13, 13] = 200, 150, 150  # 4 pixels; 9 and one more across a corner
    kept_map = drop_small_components(found, MaskRule(0.5, 20, 64), BOX)
    assert (kept_map > 127).sum() == 10
    assert (kept_map[2:4, 2:4] == 0).all()
    assert (np.delete(kept_map, [2, 3], axis=0) == np.delete(found, [2, 3], axis=0)).all()
    assert count_components(found) == 2
    assert drop_small_components(found, MaskRule(0.5, 0, 64), BOX) is found
    assert not (drop_small_components(found, MaskRule(0.5, 41, 64), BOX) > 127).any()
