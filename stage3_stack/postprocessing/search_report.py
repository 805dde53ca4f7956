"""What stands around the decision that was taken: how far it wanders, how flat the optimum is, the search's file."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

from cxr.files import write_atomically
from stage3_stack.postprocessing.search import (
    ROUNDING,
    SearchResult,
    area_above_level,
    candidate_min_areas,
    cumulative_gain,
    gain_by_area,
    gain_surface,
    passes_both_thresholds,
)
from stage3_stack.postprocessing.thresholds import PostprocessingParams, score_to_level

NEAR_OPTIMAL_MARGIN = 0.001  # of mean Dice
MAX_AREAS_IN_FILE = 512  # least areas in the search's file
GAIN_AXES = (
    "probability_threshold", "label_head_threshold", "min_component_area", "top_score_threshold",
    "bottom_score_threshold",
)  # fmt: skip
"""The axes of SearchResult.gain."""
Ranges = dict[str, list[float]]


def fold_spread(fold_params: Iterable[PostprocessingParams]) -> Ranges:
    """Least and most of each parameter over the groups' decisions."""
    fold_params = list(fold_params)
    names = (*GAIN_AXES, "min_area")
    return {name: _min_and_max([getattr(params, name) for params in fold_params]) for name in names}


def _min_and_max(values: Iterable[float]) -> list[float]:
    values = list(values)
    return [min(values), max(values)]


def near_optimal_range(result: SearchResult) -> Ranges:
    """Least and most of each parameter over all decisions within NEAR_OPTIMAL_MARGIN of the best one's mean Dice."""
    min_gain = result.gain.max() - NEAR_OPTIMAL_MARGIN * len(result.prob) - ROUNDING
    is_near_optimal = result.gain >= min_gain
    axis_indices = dict(zip(GAIN_AXES, np.nonzero(is_near_optimal), strict=True))
    ranges = {name: _min_and_max(values[k] for k in np.unique(axis_indices[name]))
              for name, values in zip(GAIN_AXES, result.axes[:5], strict=True)}  # fmt: skip
    return ranges | {"min_area": _near_optimal_areas(result, is_near_optimal, min_gain)}


def _near_optimal_areas(result: SearchResult, is_near_optimal: np.ndarray, min_gain: float) -> list[float]:
    """The same for the least area, which SearchResult.gain holds the best of only."""
    areas = []
    for index in product(*map(range, is_near_optimal.shape[:3])):
        top_indices = np.flatnonzero(is_near_optimal[index].any(axis=1))
        areas += (
            _near_optimal_areas_at(result, index, top_indices, is_near_optimal[index], min_gain)
            if len(top_indices)
            else []
        )
    return _min_and_max(areas)


def _near_optimal_areas_at(
    result: SearchResult, index: tuple[int, ...], top_indices: np.ndarray, is_near_optimal: np.ndarray, min_gain: float
) -> list[float]:
    mask_gains, is_passing = (
        result.passing_mask_gains(index),
        passes_both_thresholds(result.histograms, result.prob, result.axes, *index[:2]),
    )

    def area_range_at_top(top_index: int) -> list[float]:
        area_above = area_above_level(result.histograms, result.axes, top_index)
        min_areas = candidate_min_areas(result.axes, area_above[is_passing])
        gain = cumulative_gain(
            mask_gains.select_bottoms(np.flatnonzero(is_near_optimal[top_index])), area_above, min_areas
        )
        return _min_and_max(min_areas[(gain >= min_gain).any(axis=0)].tolist())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [end for ends in pool.map(area_range_at_top, top_indices.tolist()) for end in ends]


def find_gain_index(result: SearchResult, params: PostprocessingParams) -> tuple[int, ...]:
    """Where a decision of this search stands in SearchResult.gain."""
    return tuple(values.index(getattr(params, name)) for name, values in zip(GAIN_AXES, result.axes[:5], strict=True))


def write_search_file(path: Path, result: SearchResult, params: PostprocessingParams) -> None:
    """Write search.npz: mean Kaggle Dice around a decision of this search.

    top_levels, bottom_levels: int; surface [tops, bottoms]: with the best least area, at the decision's gates;
    probability_thresholds, probability_threshold_dice: the best at each gate; min_areas, min_area_dice: at the
    decision's gates, top and bottom, of at most MAX_AREAS_IN_FILE least areas, evenly spaced by rank, the decision's
    among them.
    """
    index = find_gain_index(result, params)
    min_areas, gain = gain_by_area(result, index)
    written_rows = np.unique(
        [*np.linspace(0, len(min_areas) - 1, MAX_AREAS_IN_FILE - 1, dtype=int), _find_area_row(min_areas, params)]
    )
    top_levels, bottom_levels = (
        [score_to_level(score) for score in scores]
        for scores in (result.axes.top_score_thresholds, result.axes.bottom_score_thresholds)
    )
    with write_atomically(path) as temporary:
        np.savez(
            temporary, top_levels=top_levels, bottom_levels=bottom_levels,
            surface=_gain_to_mean_dice(result, gain_surface(result, index)),
            probability_thresholds=result.axes.probability_thresholds,
            probability_threshold_dice=_gain_to_mean_dice(result, result.gain.max(axis=(1, 2, 3, 4))),
            min_areas=min_areas[written_rows], min_area_dice=_gain_to_mean_dice(result, gain[written_rows]),
        )  # fmt: skip


def _find_area_row(min_areas: np.ndarray, params: PostprocessingParams) -> int:
    return int(np.flatnonzero(min_areas == params.min_area)[0])


def _gain_to_mean_dice(result: SearchResult, gain: np.ndarray) -> np.ndarray:
    """Mean Kaggle Dice: empty masks' and what is gained over them."""
    return (gain + np.count_nonzero(result.histograms.truth_area == 0)) / len(result.prob)
