"""What the images' masks gain in Dice over empty masks, summed over images for every minimum area at once."""

from typing import NamedTuple

import numpy as np

from evaluation.metrics import dice_of_areas
from stage3_stack.postprocessing.search_axes import SearchAxes
from stage3_stack.postprocessing.thresholds import LevelHistograms, MaskRule


class MaskGains(NamedTuple):
    """What each image's mask gains in Dice over an empty one, at each bottom score threshold [b].

    An image without a lesion loses 1 wherever its mask is not empty. As a mask shrinks with a higher threshold, that is
    nearly always one run of thresholds from the lowest up, so only the ends of the runs are kept.
    """

    lesion_row: np.ndarray
    """int [p]: the images with a lesion"""
    gain: np.ndarray
    """float64 [b, p]: their Dice"""
    step_row: np.ndarray
    """int [e]: images without a lesion, once for each end of a run of thresholds that leave a mask"""
    step_bottom: np.ndarray
    """int [e]: the last threshold of the run"""
    step_change: np.ndarray
    """float64 [e]: 1, or -1 where a run of thresholds that leave no mask ends"""

    def select_rows(self, rows: np.ndarray) -> "MaskGains":
        """The gains of these images only, bool [n]."""
        is_selected_lesion, is_selected_step = rows[self.lesion_row], rows[self.step_row]
        return MaskGains(
            self.lesion_row[is_selected_lesion],
            self.gain[:, is_selected_lesion],
            *(array[is_selected_step] for array in self[2:]),
        )

    def select_bottoms(self, bottom_indices: np.ndarray) -> "MaskGains":
        """The gains at these bottom score thresholds only, int [b] ascending; a run ends at its last one of them."""
        last_bottom = np.searchsorted(bottom_indices, self.step_bottom, "right") - 1
        is_covered = last_bottom >= 0
        return MaskGains(
            self.lesion_row,
            self.gain[bottom_indices],
            self.step_row[is_covered],
            last_bottom[is_covered],
            self.step_change[is_covered],
        )

    @property
    def false_mask_count(self) -> np.ndarray:
        """How many images without a lesion have a mask at each bottom score threshold, [b]."""
        return np.bincount(self.step_bottom, self.step_change, len(self.gain))[::-1].cumsum()[::-1]


def compute_mask_gains(histograms: LevelHistograms, axes: SearchAxes, min_component_area: float) -> MaskGains:
    """The gains of all images at every bottom score threshold, with one minimum component area."""
    areas_at_bottom = [
        histograms.mask_areas(MaskRule(bottom, min_component_area, axes.reference_size))
        for bottom in axes.bottom_score_thresholds
    ]
    mask_area, overlap = (np.stack(arrays) for arrays in zip(*areas_at_bottom, strict=True))
    has_lesion = histograms.truth_area > 0
    gain = dice_of_areas(histograms.truth_area[has_lesion], mask_area[:, has_lesion], overlap[:, has_lesion])
    is_drawn = np.pad(mask_area[:, ~has_lesion] > 0, ((0, 1), (0, 0))).astype(np.int8)
    steps = is_drawn[:-1] - is_drawn[1:]
    step_bottom, step_column = np.nonzero(steps)
    step_row = np.flatnonzero(~has_lesion)[step_column]
    return MaskGains(
        np.flatnonzero(has_lesion), gain, step_row, step_bottom, steps[step_bottom, step_column].astype(float)
    )


def cumulative_gain(mask_gains: MaskGains, area_above: np.ndarray, min_areas: np.ndarray) -> np.ndarray:
    """Sum over images of what their masks gain, at each bottom score threshold and minimum area, float64 [b, a].

    area_above [n]: each image's area above the top score threshold; min_areas [a]: ascending.
    """
    order = np.argsort(area_above[mask_gains.lesion_row])[::-1]
    sums = np.zeros((len(mask_gains.gain), len(order) + 1))
    np.cumsum(mask_gains.gain[:, order], axis=1, out=sums[:, 1:])
    mask_count = len(order) - np.searchsorted(area_above[mask_gains.lesion_row][order[::-1]], min_areas)
    return sums[:, mask_count] - _count_false_masks(mask_gains, area_above, min_areas)


def _count_false_masks(mask_gains: MaskGains, area_above: np.ndarray, min_areas: np.ndarray) -> np.ndarray:
    """How many images without a lesion get a mask, [b, a]."""
    # the image has a mask with so many of the minimum areas, the smallest ones
    satisfied_count = np.searchsorted(min_areas, area_above[mask_gains.step_row], "right")
    shape = len(mask_gains.gain), len(min_areas) + 1
    cell = mask_gains.step_bottom * shape[1] + satisfied_count
    steps = np.bincount(cell, mask_gains.step_change, shape[0] * shape[1]).reshape(shape)
    for bottom in range(shape[0] - 1, 0, -1):  # np.cumsum along the first axis takes five times as long
        steps[bottom - 1] += steps[bottom]
    return np.cumsum(steps[:, :0:-1], axis=1)[:, ::-1]
