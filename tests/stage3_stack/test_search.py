"""The exact search finds what brute force over final masks finds, at the originals' pixels."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cxr.imaging import rle
from cxr.imaging.geometry import Letterbox
from evaluation import metrics
from stage3_stack.config import GridConfig
from stage3_stack.postprocessing.final_masks import final_mask
from stage3_stack.postprocessing.map_sets import MappedImages, compute_histograms
from stage3_stack.postprocessing.mean_maps import MeanMap
from stage3_stack.postprocessing.search import TIE_MARGIN, gain_by_area, search_thresholds, select_best_params
from stage3_stack.postprocessing.search_axes import build_axes, default_params, list_probability_thresholds
from stage3_stack.postprocessing.thresholds import (
    PLAIN_PARAMS,
    LevelHistograms,
    MaskRule,
    PostprocessingParams,
    dice_per_image,
    score_to_level,
)

SIDE, PREPARED = 16, 24
SIZES = ((16, 16), (32, 32), (16, 8), (8, 12))
EXACT = GridConfig(top_score_thresholds="exact", min_areas="exact", bottom_score_thresholds="exact", reference_size=20)


def pictures(number: int = 200) -> tuple[np.ndarray, list[Letterbox], list[np.ndarray]]:
    """Maps uint8 [n, 16, 16] of few levels, and originals of four sizes with hand-drawn masks, most of them empty."""
    draw = np.random.default_rng(3)
    maps = np.zeros((number, SIDE, SIDE), np.uint8)
    boxes = [Letterbox(*SIZES[k % 4], PREPARED) for k in range(number)]
    truth = []
    for k, box in enumerate(boxes):
        ill = draw.random() < 0.3
        y, x, high, wide = *draw.integers(2, 9, 2), *draw.integers(2, 6, 2)
        chances = [0.2, 0.2, 0.6] if ill else [0.78, 0.2, 0.02]
        maps[k, y : y + high, x : x + wide] = draw.choice([64, 128, 255], p=chances)
        maps[k, y : y + 2, x : x + 3] = draw.choice([32, 192], p=[0.9, 0.1])
        moved = np.roll(maps[k], draw.integers(0, 2, 2), (0, 1)) > 50
        truth.append(ill & (box.image_to_original(moved.astype(np.uint8) * 255) > 127))
        maps[k] *= draw.random() < 0.8
    return maps, boxes, truth


def seen(
    maps: np.ndarray, boxes: list[Letterbox], truth: list[np.ndarray], cuts: tuple[MaskRule, ...] = ()
) -> LevelHistograms:
    ids = [f"im{k}" for k in range(len(maps))]
    rows = {name: k for k, name in enumerate(ids)}
    mean = MeanMap([maps], [rows], [dict.fromkeys(ids, np.nan)])
    prepared = SimpleNamespace(get_letterbox=lambda name: boxes[rows[name]])
    codes = pd.Series([rle.encode_mask(mask) for mask in truth], index=ids)
    return compute_histograms(MappedImages(ids, [mean] * len(ids)), prepared, list(cuts), codes)


class Brute:
    """Every decision's mean Dice by drawing every mask; top and bottom at each level that tells masks apart."""

    def __init__(self, maps: np.ndarray, boxes: list[Letterbox], truth: list[np.ndarray], reference: int) -> None:
        full = [box.image_to_original(own) for own, box in zip(maps, boxes, strict=True)]
        levels = np.unique(np.concatenate([own.ravel() for own in full])).tolist()
        self.place = np.searchsorted(levels, np.arange(256), "right") - 1
        cuts, each = [MaskRule(at / 255, 0, 1) for at in levels], list(zip(maps, boxes, truth, strict=True))
        drawn = [[final_mask(own, box, cut) for own, box, _ in each] for cut in cuts]
        self.dice = np.array([list(map(metrics.dice_of_masks, truth, masks)) for masks in drawn])
        self.empty = np.array([float(not mask.any()) for mask in truth])
        self.area = np.array([[(own > at).sum() * reference**2 / own.size for own in full] for at in levels])

    def at(self, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Least areas, ascending, and the sum of Dice with each of them at each bottom."""
        area = self.area[self.place[top]]
        tried = np.unique([0, *area, np.floor(area.max()) + 1])
        scored = [np.where(area >= least, self.dice, self.empty).sum(axis=1) for least in tried]
        return tried, np.array(scored)[:, self.place]

    def best(self) -> tuple[int, float, int]:
        """Top, least area and bottom, by the words of the definition."""
        surface = np.array([self.at(top)[1].max(axis=0) for top in range(256)])
        enough = surface.max() - TIE_MARGIN - 1e-9
        near = np.argwhere(surface >= enough)
        top, bottom = near[np.abs(near - np.median(near, axis=0)).sum(axis=1).argmin()]
        tried, scored = self.at(top)
        good = np.flatnonzero(scored[:, bottom] >= enough)
        return int(top), tried[good[np.abs(good - np.median(good)).argmin()]], int(bottom)


def test_brute_force_over_final_masks_takes_the_same_triplet_on_200_maps():
    shown = pictures()
    brute, counts, prob = Brute(*shown, 20), seen(*shown), np.ones(200)
    found = search_thresholds(counts, prob, build_axes(EXACT, prob))
    surface = np.array([brute.at(top)[1].max(axis=0) for top in range(256)])
    floor = sum(not mask.any() for mask in shown[2])
    np.testing.assert_allclose((found.gain[0, 0, 0] + floor) / 200, surface / 200, rtol=0, atol=1e-12)
    taken = select_best_params(found)
    assert (
        score_to_level(taken.top_score_threshold),
        taken.min_area,
        score_to_level(taken.bottom_score_threshold),
    ) == brute.best()
    tried, scored = brute.at(score_to_level(taken.top_score_threshold))
    score = scored[tried.tolist().index(taken.min_area), score_to_level(taken.bottom_score_threshold)] / 200
    assert dice_per_image(taken, counts, prob).mean() == pytest.approx(score, rel=0, abs=1e-12)
    assert score > floor / 200 + 0.02  # there was something to find


def test_every_least_area_at_a_place_scores_as_its_masks_do():
    shown = pictures(60)
    brute, counts, prob = Brute(*shown, 20), seen(*shown), np.ones(60)
    found = search_thresholds(counts, prob, build_axes(EXACT, prob))
    for top, bottom in ((0, 0), (40, 90), (130, 31), (254, 254), (255, 255)):
        tried, gain = gain_by_area(found, (0, 0, 0, top, bottom))
        expected = brute.at(top)
        np.testing.assert_array_equal(tried, expected[0])
        np.testing.assert_allclose(gain + brute.empty.sum(), expected[1][:, bottom], atol=1e-10)


def random_counts(number: int, seed: int, cuts: list[MaskRule]) -> tuple[LevelHistograms, np.ndarray]:
    """Counts that no map need have, but with ties, empty maps and images of several sizes."""
    draw = np.random.default_rng(seed)
    above = np.sort(draw.integers(0, 9, (number, 256)) * draw.integers(0, 3, (number, 1)), axis=1)[:, ::-1]
    truth = draw.integers(1, 20, number) * (draw.random(number) < 0.5)
    kept = {cut: np.sort(draw.integers(0, 2, (number, 2)) * 5, axis=1)[:, ::-1] for cut in cuts}
    kept = {cut: np.minimum(areas, [[9, own] for own in truth]) for cut, areas in kept.items()}
    overlap = np.minimum(above // 2, truth[:, None])
    head, pixels = draw.choice([0.2, 0.7, np.nan], number), draw.choice([64, 100, 7], number)
    return LevelHistograms(above, overlap, truth, head, truth, kept, pixels), draw.random(number).round(1)


LISTS = GridConfig(
    top_score_thresholds=[0.8, 0.01, 0.5], min_areas=[0, 3, 250], bottom_score_thresholds=[0.2, 0.6, 0.9],
    probability_thresholds=[0.5, 0, 0.3], label_head_thresholds=[0, 0.6], min_component_areas=[4, 0], reference_size=16,
)  # fmt: skip


def every(grid: GridConfig, tops: list, areas: list, bottoms: list, gates_: list) -> np.ndarray:
    axis = (gates_, grid.label_head_thresholds, grid.min_component_areas, tops, bottoms, areas)
    found = [PostprocessingParams(top, area, bottom, gate, label_gate, least, grid.reference_size)
             for gate, label_gate, least, top, bottom, area in itertools.product(*map(sorted, axis))]  # fmt: skip
    cells = np.empty(len(found), object)
    cells[:] = found
    return cells.reshape([len(values) for values in axis])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("areas", "within", "each_gate"), [("exact", 0.5, True), ([0, 3, 250], 1.5, False)])
def test_every_listed_decision_gains_what_its_dice_say_or_is_worse(seed, areas, within, each_gate):
    grid = LISTS.model_copy(update={"min_areas": areas})
    cuts = [MaskRule(bottom, 4, 16) for bottom in LISTS.bottom_score_thresholds]
    counts, prob = random_counts(12, seed, cuts)
    found = search_thresholds(counts, prob, build_axes(grid, prob), margin=within, exact_at_each_threshold=each_gate)
    scaled = np.unique([0, 1e9, *(counts.area_above[:, [2, 127, 204]] * 256 / counts.pixel_count[:, None]).ravel()])
    tried = every(
        grid,
        grid.top_score_thresholds,
        scaled.tolist() if areas == "exact" else areas,
        grid.bottom_score_thresholds,
        grid.probability_thresholds,
    )
    scores = np.vectorize(lambda decision: dice_per_image(decision, counts, prob).sum())(tried)
    scored, gain = scores.max(axis=-1), found.gain + (counts.truth_area == 0).sum()
    known = np.isfinite(gain)
    np.testing.assert_allclose(gain[known], scored[known], atol=1e-10)
    assert (scored[~known] < scored.max() - within).all()
    assert not each_gate or gain.max(axis=(1, 2, 3, 4)) == pytest.approx(scored.max(axis=(1, 2, 3, 4)))
    taken = dice_per_image(select_best_params(found), counts, prob).sum()
    assert taken >= scores.max() - TIE_MARGIN - 1e-8


@pytest.mark.parametrize("each_gate", [True, False])
def test_what_is_left_out_is_worse(each_gate):
    lists = {
        "top_score_thresholds": np.linspace(0, 0.99, 33).tolist(),
        "probability_thresholds": np.linspace(0, 0.9, 10).tolist(),
        "min_areas": "exact",
        "min_component_areas": [0.0],
    }
    grid, saved = LISTS.model_copy(update=lists), 0
    for seed in range(15):
        counts, prob = random_counts(60, seed, [])
        prob = np.clip(prob + 0.3 * (counts.truth_area > 0), 0, 1)
        whole = search_thresholds(counts, prob, build_axes(grid, prob), margin=np.inf).gain
        some = search_thresholds(counts, prob, build_axes(grid, prob), margin=1, exact_at_each_threshold=each_gate).gain
        left_out = np.isneginf(some)
        saved += left_out.sum()
        assert np.isfinite(whole).all()
        assert (whole[left_out] < whole.max() - 1).all()
        np.testing.assert_array_equal(some[~left_out], whole[~left_out])
        assert not each_gate or (some.max(axis=(1, 2, 3, 4)) == whole.max(axis=(1, 2, 3, 4))).all()
    assert saved


def test_of_equal_decisions_the_most_central_is_taken():
    grid = GridConfig(
        top_score_thresholds=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        min_areas=[0, 1, 2, 3],
        bottom_score_thresholds=[0.5],
        probability_thresholds=[0],
    )
    counts, prob = random_counts(9, 0, [])
    counts.area_above[:] = 100  # so that no top and no least area tells anything apart
    found = search_thresholds(counts, prob, build_axes(grid, prob))
    assert select_best_params(found)[:3] == (0.3, 1, 0.5)
    found.gain[0, 0, 0, [0, 2]] -= 1
    assert select_best_params(found)[:3] == (0.4, 1, 0.5)


def test_gates_are_quantiles_of_the_images_they_are_chosen_on():
    grid = EXACT.model_copy(update={"probability_thresholds": {"quantiles": 3}})
    assert list_probability_thresholds(grid, np.array([0.1, 0.2, 0.4, 0.8, 0.9])) == pytest.approx([0, 0.2, 0.4, 0.8])
    assert list_probability_thresholds(grid, np.full(7, 0.3)) == [0, 0.3]


def test_a_grid_of_one_decision_is_that_decision_and_of_more_the_plain_one():
    fixed = GridConfig(
        top_score_thresholds=[0.75],
        min_areas=[200],
        bottom_score_thresholds=[0.4],
        probability_thresholds=[0.6],
        reference_size=544,
    )
    counts, prob = random_counts(30, 1, [])
    assert (
        default_params(fixed)
        == PostprocessingParams(0.75, 200, 0.4, 0.6, 0, 0, 544)
        == select_best_params(search_thresholds(counts, prob, build_axes(fixed, prob)))
    )
    assert default_params(EXACT) == PLAIN_PARAMS


def test_a_search_of_more_than_seconds_tells_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr("stage3_stack.postprocessing.search.QUIET_SECONDS", -1)
    counts, prob = random_counts(10, 0, [])
    grid = EXACT.model_copy(update={"probability_thresholds": [0.0, 0.5]})
    search_thresholds(counts, prob, build_axes(grid, prob), " of fold 3")
    assert "stage 3 thresholds of fold 3: gate " in capsys.readouterr().err
