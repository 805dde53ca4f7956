"""search.npz: mean Kaggle Dice around the chosen thresholds."""

from pathlib import Path

import numpy as np

from cxr.files import write_atomically
from stage3_stack.postprocessing.search import SearchResult, gain_by_area, gain_surface
from stage3_stack.postprocessing.search_report import GAIN_AXES
from stage3_stack.postprocessing.thresholds import PostprocessingParams, score_to_level

MAX_AREAS_IN_FILE = 512


def write_search_file(path: Path, result: SearchResult, params: PostprocessingParams) -> None:
    """Write search.npz: mean Kaggle Dice around thresholds of this search.

    top_levels, bottom_levels: int, levels of the top and bottom score thresholds;
    surface [tops, bottoms]: with the best minimum area, at the other thresholds of `params`;
    probability_thresholds, probability_threshold_dice: the best at each probability threshold;
    min_areas, min_area_dice: at all other thresholds of `params`, of at most MAX_AREAS_IN_FILE minimum areas, evenly
    spaced by rank, the chosen one among them.
    """
    index = find_gain_index(result, params)
    min_areas, gain = gain_by_area(result, index)
    chosen_row = int(np.flatnonzero(min_areas == params.min_area)[0])
    rows = np.unique([*np.linspace(0, len(min_areas) - 1, MAX_AREAS_IN_FILE - 1, dtype=int), chosen_row])
    with write_atomically(path) as temporary:
        np.savez(
            temporary,
            top_levels=[score_to_level(score) for score in result.axes.top_score_thresholds],
            bottom_levels=[score_to_level(score) for score in result.axes.bottom_score_thresholds],
            surface=_gain_to_mean_dice(result, gain_surface(result, index)),
            probability_thresholds=result.axes.probability_thresholds,
            probability_threshold_dice=_gain_to_mean_dice(result, result.gain.max(axis=(1, 2, 3, 4))),
            min_areas=min_areas[rows],
            min_area_dice=_gain_to_mean_dice(result, gain[rows]),
        )


def find_gain_index(result: SearchResult, params: PostprocessingParams) -> tuple[int, ...]:
    """The place of thresholds of this search in SearchResult.gain, int [5]."""
    return tuple(values.index(getattr(params, name)) for name, values in zip(GAIN_AXES, result.axes[:5], strict=True))


def _gain_to_mean_dice(result: SearchResult, gain: np.ndarray) -> np.ndarray:
    """Mean Kaggle Dice: that of empty masks, and the gain over them."""
    return (gain + np.count_nonzero(result.histograms.truth_area == 0)) / len(result.prob)
