"""The exact search: Kaggle's mean Dice of every top, least area, bottom and gate, and which decision is taken.

An image's mask depends on the bottom alone, and whether it is drawn on the top, the least area and the gates. So
at each top the images are put in the order of their areas above it, and running sums of what each mask gains give
every least area at once. An image without a lesion only ever loses: the best least area is that of an image with
one, or leaves all masks empty, and only there the sums are looked at; the losses between are counts, binned by the last
bottom that leaves a mask. Sums are of float64.
"""

import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from cxr.progress import ProgressLine
from evaluation.metrics import dice_of_areas
from stage3_stack.config import GridConfig
from stage3_stack.postprocessing.thresholds import (
    LEVELS,
    PLAIN_PARAMS,
    LevelHistograms,
    MaskRule,
    PostprocessingParams,
    label_head_probs,
    level_to_score,
    scale_areas,
    score_to_level,
)

TIE_MARGIN = (
    0.5  # half an image's Dice, summed over all: less is luck (by simulation .002 better on new images, from 60)
)
ROUNDING = 1e-9  # equal sums, added in another order
COARSE_STRIDE = 16  # of so many tops one tells what the best has at least
QUIET_SECONDS = 3.0  # seconds that a search may take without a word


class SearchAxes(NamedTuple):
    """All values tried, ascending."""

    probability_thresholds: list[float]
    label_head_thresholds: list[float]
    min_component_areas: list[float]
    top_score_thresholds: list[float]
    bottom_score_thresholds: list[float]
    min_areas: list[float] | None
    """None: every area that an image has above the top, 0, and one that none has, which leaves every mask empty"""
    reference_size: int


def build_axes(grid: GridConfig, prob: np.ndarray) -> SearchAxes:
    """The values of a grid; prob [n]: the probabilities whose quantiles are gates."""
    all_scores = [level_to_score(level) for level in range(LEVELS)]
    top_score_thresholds, bottom_score_thresholds = (
        all_scores if scores == "exact" else sorted(set(scores))
        for scores in (grid.top_score_thresholds, grid.bottom_score_thresholds)
    )
    min_areas = None if grid.min_areas == "exact" else sorted(set(grid.min_areas))
    label_and_component_axes = (
        sorted(set(values)) for values in (grid.label_head_thresholds, grid.min_component_areas)
    )
    return SearchAxes(
        list_probability_thresholds(grid, prob),
        *label_and_component_axes,
        top_score_thresholds,
        bottom_score_thresholds,
        min_areas,
        grid.reference_size,
    )


def list_probability_thresholds(grid: GridConfig, prob: np.ndarray) -> list[float]:
    """The gates as listed, or 0 and the quantiles of the probabilities [n]."""
    if isinstance(grid.probability_thresholds, list):
        return sorted(set(grid.probability_thresholds))
    count = grid.probability_thresholds["quantiles"]
    quantiles = np.arange(1, count + 1) / (count + 1)
    return sorted({0.0, *np.quantile(prob, quantiles).tolist()}) if len(prob) else [0.0]


class MaskGains(NamedTuple):
    """What images' masks gain in Dice over empty ones, at each bottom [b]."""

    lesion_row: np.ndarray
    """int [p]: the images with a lesion"""
    gain: np.ndarray
    """float64 [b, p]: their Dice"""
    step_row: np.ndarray
    """int [e]: images without a lesion; one for each run of bottoms (nearly always one) that leave a mask"""
    step_bottom: np.ndarray
    """int [e]: the last bottom of the run"""
    step_change: np.ndarray
    """float64 [e]: 1, and -1 where a run of bottoms that leave none ends"""

    def select_rows(self, rows: np.ndarray) -> "MaskGains":
        """Those of some images, bool [n]."""
        is_selected_lesion, is_selected_step = rows[self.lesion_row], rows[self.step_row]
        return MaskGains(
            self.lesion_row[is_selected_lesion],
            self.gain[:, is_selected_lesion],
            *(array[is_selected_step] for array in self[2:]),
        )

    def select_bottoms(self, bottom_indices: np.ndarray) -> "MaskGains":
        """Those at some bottoms, int [b] ascending: a run ends at the last of them that is in it."""
        last_bottom = np.searchsorted(bottom_indices, self.step_bottom, "right") - 1
        is_covered = last_bottom >= 0
        return MaskGains(
            self.lesion_row,
            self.gain[bottom_indices],
            self.step_row[is_covered],
            last_bottom[is_covered],
            self.step_change[is_covered],
        )


def compute_mask_gains(histograms: LevelHistograms, axes: SearchAxes, min_component_area: float) -> MaskGains:
    """The masks of all images under a least component."""
    areas_at_bottom = [
        histograms.mask_areas(MaskRule(bottom, min_component_area, axes.reference_size))
        for bottom in axes.bottom_score_thresholds
    ]
    mask_area, overlap = (np.stack(arrays) for arrays in zip(*areas_at_bottom, strict=True))
    has_lesion = histograms.truth_area > 0
    gain = dice_of_areas(histograms.truth_area[has_lesion], mask_area[:, has_lesion], overlap[:, has_lesion])
    is_drawn = np.pad(mask_area[:, ~has_lesion] > 0, ((0, 1), (0, 0))).astype(np.int8)
    steps = is_drawn[:-1] - is_drawn[1:]
    step_index = np.nonzero(steps)
    return MaskGains(
        np.flatnonzero(has_lesion),
        gain,
        np.flatnonzero(~has_lesion)[step_index[1]],
        step_index[0],
        steps[step_index].astype(float),
    )


def cumulative_gain(mask_gains: MaskGains, area_above: np.ndarray, min_areas: np.ndarray) -> np.ndarray:
    """Sum over images of what their masks gain, at each bottom and least area, float64 [b, a].

    area_above [n]: of each image above the top; min_areas [a]: the least areas, ascending.
    """
    order = np.argsort(area_above[mask_gains.lesion_row])[::-1]
    sums = np.zeros((len(mask_gains.gain), len(order) + 1))
    np.cumsum(mask_gains.gain[:, order], axis=1, out=sums[:, 1:])
    mask_count = len(order) - np.searchsorted(area_above[mask_gains.lesion_row][order[::-1]], min_areas)
    return sums[:, mask_count] - _count_false_masks(mask_gains, area_above, min_areas)


def _count_false_masks(mask_gains: MaskGains, area_above: np.ndarray, min_areas: np.ndarray) -> np.ndarray:
    """How many images without a lesion get a mask, [b, a]."""
    satisfied_count = np.searchsorted(
        min_areas, area_above[mask_gains.step_row], "right"
    )  # with so many of the least areas, the smallest ones
    shape = len(mask_gains.gain), len(min_areas) + 1
    steps = np.bincount(
        mask_gains.step_bottom * shape[1] + satisfied_count, mask_gains.step_change, shape[0] * shape[1]
    ).reshape(shape)
    for bottom in range(shape[0] - 1, 0, -1):  # NumPy's own sums along the first axis take five times as long
        steps[bottom - 1] += steps[bottom]
    return np.cumsum(steps[:, :0:-1], axis=1)[:, ::-1]


def candidate_min_areas(axes: SearchAxes, areas: np.ndarray) -> np.ndarray:
    """The least areas, ascending; areas [n]: those of the images that pass the gates, above the top."""
    if axes.min_areas is not None:
        return np.array(axes.min_areas, float)
    return np.unique([*areas, 0.0, np.floor(areas.max(initial=0)) + 1])


@dataclass(frozen=True)
class SearchResult:
    """Of some images, every decision's sum of gains in Dice over empty masks."""

    histograms: LevelHistograms
    prob: np.ndarray
    axes: SearchAxes
    gain: np.ndarray
    """float64 [gates, label gates, least components, tops, bottoms]: that of the best least area; -inf: left out"""

    def passing_mask_gains(self, index: tuple[int, ...]) -> MaskGains:
        """Those of the images that pass the gates, under the least component, at a place of `gain`."""
        return self._mask_gains_by_component[index[2]].select_rows(
            passes_both_thresholds(self.histograms, self.prob, self.axes, *index[:2])
        )

    @cached_property
    def _mask_gains_by_component(self) -> list[MaskGains]:
        return [
            compute_mask_gains(self.histograms, self.axes, min_component_area)
            for min_component_area in self.axes.min_component_areas
        ]


def passes_both_thresholds(
    histograms: LevelHistograms, prob: np.ndarray, axes: SearchAxes, threshold_index: int, label_threshold_index: int
) -> np.ndarray:
    """The images that pass two gates, bool [n]."""
    return (prob >= axes.probability_thresholds[threshold_index]) & (
        label_head_probs(histograms) >= axes.label_head_thresholds[label_threshold_index]
    )


def area_above_level(histograms: LevelHistograms, axes: SearchAxes, top_index: int) -> np.ndarray:
    """Of each image the area above a top, [n]."""
    return scale_areas(
        histograms.area_above[:, score_to_level(axes.top_score_thresholds[top_index])],
        histograms.pixel_count,
        axes.reference_size,
    )


def search_thresholds(
    histograms: LevelHistograms,
    prob: np.ndarray,
    axes: SearchAxes,
    progress_suffix: str = "",
    margin: float = TIE_MARGIN,
    exact_at_each_threshold: bool = False,
) -> SearchResult:
    """Every decision's gain on these images [n]; says how far it is where that takes more than seconds.

    What is provably worse than the best by more than `margin` is left out (-inf in SearchResult.gain); with
    exact_at_each_threshold not so far that the best at any gate were not known. What the best has at least, a few tops
    at every gate tell; the proof is in `_sweep_thresholds`.
    """
    shape = tuple(map(len, axes[:5]))
    result = SearchResult(histograms, prob, axes, np.full(shape, -np.inf))
    gain_indices = np.ndindex(shape[:3])
    coarse_gain = np.array(
        [
            _gain_at_tops(result, result.passing_mask_gains(index), range(0, shape[3], COARSE_STRIDE)).max()
            for index in gain_indices
        ]
    )
    coarse_gain = coarse_gain.reshape(shape[:3])
    min_gain = (
        np.minimum(
            coarse_gain.max() - margin, coarse_gain if exact_at_each_threshold else np.full(coarse_gain.shape, np.inf)
        )
        - ROUNDING
    )
    progress_line, start_time = ProgressLine(f"stage 3 thresholds{progress_suffix}"), time.monotonic()
    for label_and_component in np.ndindex(shape[1:3]):
        best_threshold = int(coarse_gain[:, *label_and_component].argmax())
        for direction, threshold_indices in enumerate((range(best_threshold, shape[0]), range(best_threshold, -1, -1))):
            for threshold_index in _sweep_thresholds(
                result, threshold_indices, label_and_component, min_gain[:, *label_and_component]
            ):
                if time.monotonic() - start_time > QUIET_SECONDS:
                    progress_line.show_progress(
                        f"gate {threshold_index + 1} of {shape[0]}, {'down' if direction else 'up'} "
                        f"from {best_threshold + 1}"
                    )
    return result


def _sweep_thresholds(
    result: SearchResult, threshold_indices: Iterable[int], label_and_component: tuple[int, int], min_gain: np.ndarray
) -> Iterator[int]:
    """Fill SearchResult.gain at one gate after the other: all of the first, then the tops that may reach min_gain.

    min_gain: [gates]. Images that a higher gate takes away can raise a sum by no more than their losses, those that a
    lower one brings by no more than their Dice.
    """
    gain_bound, previous_bounds = np.full(result.gain.shape[3:], np.inf), (0.0, 0.0)
    for threshold_index in threshold_indices:
        mask_gains, gain = (
            result.passing_mask_gains((threshold_index, *label_and_component)),
            result.gain[threshold_index, *label_and_component],
        )
        current_bounds = _max_false_masks(mask_gains), mask_gains.gain.sum(axis=1)
        gain_bound += np.maximum(previous_bounds[0] - current_bounds[0], current_bounds[1] - previous_bounds[1])
        is_unsearched = np.isneginf(gain).any(axis=1)
        top_indices, previous_bounds = (
            np.flatnonzero(is_unsearched & (gain_bound >= min_gain[threshold_index]).any(axis=1)),
            current_bounds,
        )
        gain[top_indices] = _gain_at_tops(result, mask_gains, top_indices)
        gain_bound = np.where(np.isneginf(gain), gain_bound, gain)
        yield threshold_index


def gain_surface(result: SearchResult, index: tuple[int, ...]) -> np.ndarray:
    """The whole of SearchResult.gain [tops, bottoms] at the gates and the least component of a place."""
    return _gain_at_tops(result, result.passing_mask_gains(index), range(len(result.axes.top_score_thresholds)))


def _max_false_masks(mask_gains: MaskGains) -> np.ndarray:
    """How many images without a lesion have a mask at each bottom, [b]."""
    return np.bincount(mask_gains.step_bottom, mask_gains.step_change, len(mask_gains.gain))[::-1].cumsum()[::-1]


def _gain_at_tops(result: SearchResult, mask_gains: MaskGains, top_indices: Iterable[int]) -> np.ndarray:
    """The gain [tops, bottoms] with the best least area, of the images that pass some gates."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        gains = list(
            pool.map(
                lambda top_index: _best_gain(
                    mask_gains, area_above_level(result.histograms, result.axes, top_index), result.axes
                ),
                top_indices,
            )
        )
    return np.array(gains).reshape(len(gains), len(mask_gains.gain))


def _best_gain(mask_gains: MaskGains, area_above: np.ndarray, axes: SearchAxes) -> np.ndarray:
    """The gain at each bottom [b] with the best least area."""
    if axes.min_areas is not None:
        return cumulative_gain(mask_gains, area_above, np.array(axes.min_areas)).max(axis=1)
    return np.maximum(
        cumulative_gain(mask_gains, area_above, np.unique([*area_above[mask_gains.lesion_row], 0.0])).max(axis=1), 0
    )


def select_best_params(result: SearchResult) -> PostprocessingParams:
    """The decision with the largest gain; of those as good (within TIE_MARGIN) the most central, which stands safest.

    Two passes. Of gate, label gate, least component, top and bottom, each by its place among the values tried: the
    places that are as good with some least area; the median of each over these; of them the nearest to the medians
    (sum of distances), the first where several are. Then, there, the least area: of those as good the nearest to the
    median one, by place among all areas that the images there have (or that are listed), ascending.
    """
    min_gain = result.gain.max() - TIE_MARGIN - ROUNDING
    index = _most_central(result.gain >= min_gain)
    min_areas, gain = gain_by_area(result, index)
    near_optimal = np.flatnonzero(gain >= min(min_gain, gain.max()))  # the same sums, but for their last digit
    return _params_at(
        result.axes, index, min_areas[near_optimal[np.abs(near_optimal - np.median(near_optimal)).argmin()]]
    )


def _most_central(is_near_optimal: np.ndarray) -> tuple[int, ...]:
    """The place, among the true ones, that is nearest to their medians along each axis."""
    distance = np.zeros(is_near_optimal.shape)
    for axis, size in enumerate(is_near_optimal.shape):
        other_axes = tuple(k for k in range(is_near_optimal.ndim) if k != axis)
        median = np.median(np.repeat(np.arange(size), np.count_nonzero(is_near_optimal, axis=other_axes)))
        distance += np.abs(np.arange(size) - median).reshape(
            [-1 if k == axis else 1 for k in range(is_near_optimal.ndim)]
        )
    return np.unravel_index(np.where(is_near_optimal, distance, np.inf).argmin(), is_near_optimal.shape)


def gain_by_area(result: SearchResult, index: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Every least area, ascending [a], and its gain [a], at one place of SearchResult.gain."""
    is_passing, area_above = (
        passes_both_thresholds(result.histograms, result.prob, result.axes, *index[:2]),
        area_above_level(result.histograms, result.axes, index[3]),
    )
    min_areas = candidate_min_areas(result.axes, area_above[is_passing])
    return min_areas, cumulative_gain(
        result.passing_mask_gains(index).select_bottoms(np.array([index[4]])), area_above, min_areas
    )[0]


def _params_at(axes: SearchAxes, index: tuple[int, ...], min_area: float) -> PostprocessingParams:
    probability_threshold, label_head_threshold, min_component_area, top_score_threshold, bottom_score_threshold = (
        values[k] for values, k in zip(axes[:5], index, strict=True)
    )
    area = int(min_area) if float(min_area).is_integer() else float(min_area)
    return PostprocessingParams(
        top_score_threshold,
        area,
        bottom_score_threshold,
        probability_threshold,
        label_head_threshold,
        min_component_area,
        axes.reference_size,
    )


def default_params(grid: GridConfig) -> PostprocessingParams:
    """Where nothing is there to choose by: the grid's only decision, or PLAIN_PARAMS where it holds several."""
    if grid.has_alternatives:
        return PLAIN_PARAMS
    single_axes = build_axes(grid, np.empty(0))
    return _params_at(single_axes, (0,) * 5, single_axes.min_areas[0])
