"""The values that the search tries of each threshold."""

from typing import NamedTuple

import numpy as np

from stage3_stack.config import GridConfig
from stage3_stack.postprocessing.thresholds import (
    LEVELS,
    PLAIN_PARAMS,
    LevelHistograms,
    PostprocessingParams,
    label_head_probs,
    level_to_score,
    scale_areas,
    score_to_level,
)


class SearchAxes(NamedTuple):
    """All values tried, ascending; the first five are the axes of SearchResult.gain, in this order."""

    probability_thresholds: list[float]
    label_head_thresholds: list[float]
    min_component_areas: list[float]
    top_score_thresholds: list[float]
    bottom_score_thresholds: list[float]
    min_areas: list[float] | None
    """None: every area that an image has above the top score, 0, and a larger one, which leaves every mask empty"""
    reference_size: int

    @property
    def gain_shape(self) -> tuple[int, ...]:
        """Number of values on each of the first five axes."""
        return tuple(map(len, self[:5]))

    def params_at(self, index: tuple[int, ...], min_area: float) -> PostprocessingParams:
        """The thresholds at a place of SearchResult.gain, int [5], with this minimum area."""
        probability, label_head, min_component_area, top, bottom = (
            values[k] for values, k in zip(self[:5], index, strict=True)
        )
        area = int(min_area) if float(min_area).is_integer() else float(min_area)
        return PostprocessingParams(top, area, bottom, probability, label_head, min_component_area, self.reference_size)


def build_axes(grid: GridConfig, prob: np.ndarray) -> SearchAxes:
    """The values of a grid; prob, float64 [n]: those whose quantiles are tried as probability thresholds."""
    return SearchAxes(
        list_probability_thresholds(grid, prob),
        sorted(set(grid.label_head_thresholds)),
        sorted(set(grid.min_component_areas)),
        _list_scores(grid.top_score_thresholds),
        _list_scores(grid.bottom_score_thresholds),
        None if grid.min_areas == "exact" else sorted(set(grid.min_areas)),
        grid.reference_size,
    )


def _list_scores(scores: list[float] | str) -> list[float]:
    return [level_to_score(level) for level in range(LEVELS)] if scores == "exact" else sorted(set(scores))


def list_probability_thresholds(grid: GridConfig, prob: np.ndarray) -> list[float]:
    """The probability thresholds as listed, or 0 and the quantiles of the probabilities, float64 [n]."""
    if isinstance(grid.probability_thresholds, list):
        return sorted(set(grid.probability_thresholds))
    count = grid.probability_thresholds["quantiles"]
    quantiles = np.arange(1, count + 1) / (count + 1)
    return sorted({0.0, *np.quantile(prob, quantiles).tolist()}) if len(prob) else [0.0]


def candidate_min_areas(axes: SearchAxes, areas: np.ndarray) -> np.ndarray:
    """The minimum areas to try, ascending; areas [n]: above the top score, of the images that pass the thresholds."""
    if axes.min_areas is not None:
        return np.array(axes.min_areas, float)
    return np.unique([*areas, 0.0, np.floor(areas.max(initial=0)) + 1])


def passes_both_thresholds(
    histograms: LevelHistograms, prob: np.ndarray, axes: SearchAxes, threshold_index: int, label_threshold_index: int
) -> np.ndarray:
    """The images whose stacked probability and label heads' probability reach their thresholds, bool [n].

    histograms: of n images
    prob: their stacked probabilities, float64 [n]
    axes: the values tried
    threshold_index: place among axes.probability_thresholds
    label_threshold_index: place among axes.label_head_thresholds
    """
    return (prob >= axes.probability_thresholds[threshold_index]) & (
        label_head_probs(histograms) >= axes.label_head_thresholds[label_threshold_index]
    )


def area_above_level(histograms: LevelHistograms, axes: SearchAxes, top_index: int) -> np.ndarray:
    """Area above a top score threshold, per image, [n], in pixels of an image of reference_size."""
    level = score_to_level(axes.top_score_thresholds[top_index])
    return scale_areas(histograms.area_above[:, level], histograms.pixel_count, axes.reference_size)


def default_params(grid: GridConfig) -> PostprocessingParams:
    """The thresholds where there are no images to choose by: the grid's only ones or, of several, PLAIN_PARAMS."""
    if grid.has_alternatives:
        return PLAIN_PARAMS
    axes = build_axes(grid, np.empty(0))
    return axes.params_at((0,) * 5, axes.min_areas[0])
