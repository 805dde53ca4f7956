"""How reliable the chosen thresholds are: how much they differ between folds, and how flat the optimum is."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np

from stage3_stack.postprocessing.mask_gains import cumulative_gain
from stage3_stack.postprocessing.search import ROUNDING, SearchResult
from stage3_stack.postprocessing.search_axes import area_above_level, candidate_min_areas, passes_both_thresholds
from stage3_stack.postprocessing.thresholds import PostprocessingParams

NEAR_OPTIMAL_MARGIN = 0.001  # of mean Dice
GAIN_AXES = (
    "probability_threshold", "label_head_threshold", "min_component_area", "top_score_threshold",
    "bottom_score_threshold",
)  # fmt: skip
"""The axes of SearchResult.gain."""
Ranges = dict[str, list[float]]
"""[smallest, largest] of each parameter."""


def fold_spread(fold_params: Iterable[PostprocessingParams]) -> Ranges:
    """Smallest and largest value of each parameter over the groups' thresholds."""
    fold_params = list(fold_params)
    names = (*GAIN_AXES, "min_area")
    return {name: _min_and_max([getattr(params, name) for params in fold_params]) for name in names}


def _min_and_max(values: Iterable[float]) -> list[float]:
    values = list(values)
    return [min(values), max(values)]


def near_optimal_range(result: SearchResult) -> Ranges:
    """Smallest and largest value of each parameter whose mean Dice can be within NEAR_OPTIMAL_MARGIN of the best."""
    min_gain = result.gain.max() - NEAR_OPTIMAL_MARGIN * len(result.prob) - ROUNDING
    is_near_optimal = result.gain >= min_gain
    axis_indices = dict(zip(GAIN_AXES, np.nonzero(is_near_optimal), strict=True))
    ranges = {name: _min_and_max(values[k] for k in np.unique(axis_indices[name]))
              for name, values in zip(GAIN_AXES, result.axes[:5], strict=True)}  # fmt: skip
    return ranges | {"min_area": _near_optimal_areas(result, is_near_optimal, min_gain)}


def _near_optimal_areas(result: SearchResult, is_near_optimal: np.ndarray, min_gain: float) -> list[float]:
    """The range of the minimum area, of which SearchResult.gain holds the best only."""
    areas = []
    for index in product(*map(range, is_near_optimal.shape[:3])):
        if is_near_optimal[index].any():
            areas += _near_optimal_areas_at(result, index, is_near_optimal[index], min_gain)
    return _min_and_max(areas)


def _near_optimal_areas_at(
    result: SearchResult, index: tuple[int, ...], is_near_optimal: np.ndarray, min_gain: float
) -> list[float]:
    """The ends of that range for each top score threshold, at a place of the first three axes."""
    mask_gains = result.passing_mask_gains(index)
    is_passing = passes_both_thresholds(result.histograms, result.prob, result.axes, *index[:2])

    def area_range_at_top(top_index: int) -> list[float]:
        area_above = area_above_level(result.histograms, result.axes, top_index)
        min_areas = candidate_min_areas(result.axes, area_above[is_passing])
        bottom_gains = mask_gains.select_bottoms(np.flatnonzero(is_near_optimal[top_index]))
        gain = cumulative_gain(bottom_gains, area_above, min_areas)
        return _min_and_max(min_areas[(gain >= min_gain).any(axis=0)].tolist())

    top_indices = np.flatnonzero(is_near_optimal.any(axis=1))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [end for ends in pool.map(area_range_at_top, top_indices.tolist()) for end in ends]
