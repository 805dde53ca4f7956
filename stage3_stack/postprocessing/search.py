"""The exact search: Kaggle's mean Dice of every combination of thresholds, and which combination is taken.

The bottom score threshold alone decides an image's mask; the top score threshold, the minimum area and the probability
thresholds decide whether the image gets it. So at each top score threshold the images are sorted by their area above
it, and cumulative sums of what each mask gains give every minimum area at once (`mask_gains`). An image without a
lesion can only lose. Therefore the best minimum area is the area of an image with a lesion, or one that leaves all
masks empty, and the sums are needed at these areas only. Sums are of float64.

The search is our own; tests/stage3_stack/test_search.py compares it with the drawing of every mask.
"""

import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cxr.progress import ProgressLine
from stage3_stack.postprocessing.mask_gains import MaskGains, compute_mask_gains, cumulative_gain
from stage3_stack.postprocessing.search_axes import (
    SearchAxes,
    area_above_level,
    candidate_min_areas,
    passes_both_thresholds,
)
from stage3_stack.postprocessing.thresholds import LevelHistograms, PostprocessingParams

TIE_MARGIN = 0.5
"""Half an image's Dice, summed over all images: smaller differences are chance. By simulation, taking the most central
of such ties is .002 better on new images, from 60 images on."""
ROUNDING = 1e-9  # equal sums, added in another order, differ by less
COARSE_STRIDE = 16  # every 16th top score threshold gives a first lower bound of the best gain
QUIET_SECONDS = 3.0  # a search that takes longer prints its progress


@dataclass(frozen=True)
class SearchResult:
    """For some images [n], the sum of gains in Dice over empty masks of every combination of thresholds."""

    histograms: LevelHistograms
    prob: np.ndarray
    """float64 [n]: stacked probabilities"""
    axes: SearchAxes
    gain: np.ndarray
    """float64, of axes.gain_shape: with the best minimum area; -inf where the search proved it to be worse"""

    def passing_mask_gains(self, index: tuple[int, ...]) -> MaskGains:
        """The gains of the images that pass the probability thresholds at a place of `gain`."""
        is_passing = passes_both_thresholds(self.histograms, self.prob, self.axes, *index[:2])
        return self._mask_gains_by_component[index[2]].select_rows(is_passing)

    @cached_property
    def _mask_gains_by_component(self) -> list[MaskGains]:
        return [compute_mask_gains(self.histograms, self.axes, area) for area in self.axes.min_component_areas]


def search_thresholds(
    histograms: LevelHistograms,
    prob: np.ndarray,
    axes: SearchAxes,
    progress_suffix: str = "",
    margin: float = TIE_MARGIN,
    exact_at_each_threshold: bool = False,
) -> SearchResult:
    """Sum the gains of every combination of thresholds; print the progress if it takes longer than QUIET_SECONDS.

    histograms: of n images
    prob: their stacked probabilities, float64 [n]
    axes: the values to try
    progress_suffix: what the progress line adds to its title
    margin: in Dice summed over images; combinations that are provably worse than the best by more are left out
    exact_at_each_threshold: also find the best gain at each probability threshold

    Returns the gains, with -inf for what was left out.
    """
    result = SearchResult(histograms, prob, axes, np.full(axes.gain_shape, -np.inf))
    coarse_gain = _search_coarsely(result)
    min_gain = _lower_bounds(coarse_gain, margin, exact_at_each_threshold)
    progress = _SearchProgress(progress_suffix, len(axes.probability_thresholds))
    for label_and_component in np.ndindex(axes.gain_shape[1:3]):
        start, bounds = coarse_gain[:, *label_and_component].argmax(), min_gain[:, *label_and_component]
        for threshold_indices in (range(start, progress.count), range(start, -1, -1)):
            for index in _sweep_thresholds(result, threshold_indices, label_and_component, bounds):
                progress.show_threshold(index, threshold_indices)
    return result


class _SearchProgress:
    """The progress line of a search, which appears after QUIET_SECONDS."""

    def __init__(self, suffix: str, count: int) -> None:
        self.line, self.count, self.start_time = ProgressLine(f"stage 3 thresholds{suffix}"), count, time.monotonic()

    def show_threshold(self, index: int, threshold_indices: range) -> None:
        """Show which of the probability thresholds was searched last, and in which direction the search goes."""
        if time.monotonic() - self.start_time > QUIET_SECONDS:
            direction = "up" if threshold_indices.step > 0 else "down"
            self.line.show_progress(f"gate {index + 1} of {self.count}, {direction} from {threshold_indices[0] + 1}")


def _search_coarsely(result: SearchResult) -> np.ndarray:
    """The best gain over every COARSE_STRIDE-th top score threshold, at each place of the first three axes."""
    shape = result.axes.gain_shape
    top_indices = range(0, shape[3], COARSE_STRIDE)
    gains = [_gain_at_tops(result, result.passing_mask_gains(index), top_indices) for index in np.ndindex(shape[:3])]
    return np.array([gain.max() for gain in gains]).reshape(shape[:3])


def _lower_bounds(coarse_gain: np.ndarray, margin: float, exact_at_each_threshold: bool) -> np.ndarray:
    """The gain that a combination must be able to reach to be searched, at each place of the first three axes."""
    min_gain = coarse_gain.max() - margin
    if exact_at_each_threshold:
        min_gain = np.minimum(min_gain, coarse_gain)
    return np.broadcast_to(min_gain - ROUNDING, coarse_gain.shape)


def _sweep_thresholds(
    result: SearchResult, threshold_indices: Iterable[int], label_and_component: tuple[int, int], min_gain: np.ndarray
) -> Iterator[int]:
    """Fill SearchResult.gain from one probability threshold to the next; yields the index of each that is filled.

    At the first all top score thresholds are searched, at the next ones those that may still reach min_gain [number of
    probability thresholds]. The bound: images that a higher probability threshold removes can raise a sum by no more
    than the false masks among them, those that a lower one adds by no more than their Dice.
    """
    gain_bound, previous_bounds = np.full(result.gain.shape[3:], np.inf), (0.0, 0.0)
    for index in threshold_indices:
        mask_gains = result.passing_mask_gains((index, *label_and_component))
        gain = result.gain[index, *label_and_component]
        current_bounds = mask_gains.false_mask_count, mask_gains.gain.sum(axis=1)
        gain_bound += np.maximum(previous_bounds[0] - current_bounds[0], current_bounds[1] - previous_bounds[1])
        previous_bounds = current_bounds
        may_reach = np.isneginf(gain).any(axis=1) & (gain_bound >= min_gain[index]).any(axis=1)
        top_indices = np.flatnonzero(may_reach)
        gain[top_indices] = _gain_at_tops(result, mask_gains, top_indices)
        gain_bound = np.where(np.isneginf(gain), gain_bound, gain)
        yield index


def gain_surface(result: SearchResult, index: tuple[int, ...]) -> np.ndarray:
    """SearchResult.gain [tops, bottoms] at the first three places of `index`, with nothing left out."""
    return _gain_at_tops(result, result.passing_mask_gains(index), range(len(result.axes.top_score_thresholds)))


def _gain_at_tops(result: SearchResult, mask_gains: MaskGains, top_indices: Iterable[int]) -> np.ndarray:
    """The gain [tops, bottoms] with the best minimum area, of the images that pass the probability thresholds."""

    def best_gain_at(top_index: int) -> np.ndarray:
        return _best_gain(mask_gains, area_above_level(result.histograms, result.axes, top_index), result.axes)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        gains = list(pool.map(best_gain_at, top_indices))
    return np.array(gains).reshape(len(gains), len(mask_gains.gain))


def _best_gain(mask_gains: MaskGains, area_above: np.ndarray, axes: SearchAxes) -> np.ndarray:
    """The gain at each bottom score threshold [b] with the best minimum area."""
    if axes.min_areas is not None:
        return cumulative_gain(mask_gains, area_above, np.array(axes.min_areas)).max(axis=1)
    min_areas = np.unique([*area_above[mask_gains.lesion_row], 0.0])
    return np.maximum(cumulative_gain(mask_gains, area_above, min_areas).max(axis=1), 0)


def select_best_params(result: SearchResult) -> PostprocessingParams:
    """The thresholds with the largest gain; among ties, within TIE_MARGIN, the most central, which are the most stable.

    It is done in two passes. First, over the five axes of SearchResult.gain: take the places that tie, the median index
    of these along each axis, and the place with the smallest sum of distances to the medians, the first of several.
    Then, there, over the minimum areas (those that occur, or those listed, ascending): take the one that ties and whose
    index is nearest to the median index of the ties.
    """
    min_gain = result.gain.max() - TIE_MARGIN - ROUNDING
    index = _most_central(result.gain >= min_gain)
    min_areas, gain = gain_by_area(result, index)
    near_optimal = np.flatnonzero(gain >= min(min_gain, gain.max()))  # equal sums, but for rounding
    central = near_optimal[np.abs(near_optimal - np.median(near_optimal)).argmin()]
    return result.axes.params_at(index, min_areas[central])


def _most_central(is_near_optimal: np.ndarray) -> tuple[int, ...]:
    """The index, among the true ones, with the smallest sum of distances to their medians along each axis."""
    distance = np.zeros(is_near_optimal.shape)
    for axis, size in enumerate(is_near_optimal.shape):
        other_axes = tuple(k for k in range(is_near_optimal.ndim) if k != axis)
        median = np.median(np.repeat(np.arange(size), np.count_nonzero(is_near_optimal, axis=other_axes)))
        along_axis = [-1 if k == axis else 1 for k in range(is_near_optimal.ndim)]
        distance += np.abs(np.arange(size) - median).reshape(along_axis)
    return np.unravel_index(np.where(is_near_optimal, distance, np.inf).argmin(), is_near_optimal.shape)


def gain_by_area(result: SearchResult, index: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Every minimum area, ascending [a], and its gain [a], at one place of SearchResult.gain, int [5]."""
    is_passing = passes_both_thresholds(result.histograms, result.prob, result.axes, *index[:2])
    area_above = area_above_level(result.histograms, result.axes, index[3])
    min_areas = candidate_min_areas(result.axes, area_above[is_passing])
    mask_gains = result.passing_mask_gains(index).select_bottoms(np.array([index[4]]))
    return min_areas, cumulative_gain(mask_gains, area_above, min_areas)[0]
