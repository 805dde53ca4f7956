"""The rule that makes a mask, and the histograms of the maps that it is evaluated on.

Sources: top score threshold, minimum area and bottom score threshold are the first place's (sneddy), the threshold on
the stacked classifier's probability the rank-47 solution's, that on the segmenters' own label heads the fourth place's
(amirassov), the minimum component area nguyen's. 8-bit maps have 256 levels, so the areas above each level suffice to
evaluate any thresholds on an image; only masks without small components are measured one by one.
"""

from dataclasses import dataclass, fields
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np

from evaluation.metrics import dice_of_areas
from stage3_stack.config import GridConfig

LEVELS = 256


class MaskRule(NamedTuple):
    """The pixels of a mask: those above bottom_score_threshold, in components of at least min_component_area pixels.

    Areas are in pixels of an image of reference_size squared.
    """

    bottom_score_threshold: float
    min_component_area: float
    reference_size: float


class PostprocessingParams(NamedTuple):
    """All thresholds of the rule that makes a mask.

    An image gets a mask if its stacked probability and its label heads' probability reach their thresholds and at least
    min_area pixels score above top_score_threshold. The mask is the pixels above bottom_score_threshold, without
    components of fewer than min_component_area pixels. Scores and probabilities are within 0 and 1; areas are pixels of
    an image of reference_size squared.
    """

    top_score_threshold: float
    min_area: float
    bottom_score_threshold: float
    probability_threshold: float
    label_head_threshold: float = 0.0
    min_component_area: float = 0.0
    reference_size: float = 1024

    @property
    def mask_rule(self) -> MaskRule:
        """The thresholds that say which pixels a mask is."""
        return MaskRule(self.bottom_score_threshold, self.min_component_area, self.reference_size)


PLAIN_PARAMS = PostprocessingParams(0.5, 0, 0.5, 0.0)
"""Without any choice: every pixel above .5."""


@dataclass(frozen=True)
class LevelHistograms:
    """Pixel counts of n images' maps, brought back to the originals: all that thresholds and their Dice depend on."""

    area_above: np.ndarray
    """int32 [n, 256]: pixels of the original above each level"""
    overlap_above: np.ndarray
    """int32 [n, 256]: pixels above each level inside the hand-drawn mask"""
    truth_area: np.ndarray
    """int64 [n]: pixels of the hand-drawn mask"""
    label_head_prob: np.ndarray
    """float64 [n]: mean probability of a pneumothorax by the segmenters' label heads; NaN if none has one"""
    component_count: np.ndarray
    """int64 [n]: connected components of the map above .5"""
    kept_areas: dict[MaskRule, np.ndarray]
    """int64 [n, 2] for each rule that drops components: pixels of the mask, and those inside the hand-drawn mask"""
    pixel_count: np.ndarray
    """int64 [n]: pixels of the original"""

    def __getitem__(self, rows: np.ndarray) -> "LevelHistograms":
        """Only these images, bool [n] or int."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        kept_areas = {rule: areas[rows] for rule, areas in arrays.pop("kept_areas").items()}
        return LevelHistograms(kept_areas=kept_areas, **{name: array[rows] for name, array in arrays.items()})

    def mask_areas(self, rule: MaskRule) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of each image's mask under a rule, and those of them inside the hand-drawn mask, [n] each."""
        if rule.min_component_area:
            return self.kept_areas[rule][:, 0], self.kept_areas[rule][:, 1]
        level = score_to_level(rule.bottom_score_threshold)
        return self.area_above[:, level], self.overlap_above[:, level]


def list_component_rules(grid_or_params: GridConfig | PostprocessingParams) -> list[MaskRule]:
    """The rules of a grid, or of chosen thresholds, that drop components; masks under the others need no measuring."""
    if isinstance(grid_or_params, PostprocessingParams):
        return [grid_or_params.mask_rule] if grid_or_params.min_component_area else []
    grid = grid_or_params
    min_areas = [min_area for min_area in grid.min_component_areas if min_area]
    if not min_areas:  # bottom_score_thresholds may then be 'exact', which is no list
        return []
    return [MaskRule(*pair, grid.reference_size) for pair in product(grid.bottom_score_thresholds, min_areas)]


def scale_areas(areas: np.ndarray, pixel_count: np.ndarray, reference_size: float) -> np.ndarray:
    """Areas [n] of images of pixel_count [n] pixels, in pixels of an image of reference_size squared.

    Exact where the result is a whole number.
    """
    return areas * float(reference_size) ** 2 / pixel_count


def score_to_level(score: float) -> int:
    """The 8-bit level that a pixel must exceed for its probability to exceed a score, 0 to 1."""
    return int(np.floor(score * 255 + 1e-9))


def level_to_score(level: int) -> float:
    """A score of three digits that exactly the pixels above an 8-bit level exceed."""
    return min(round((level + 0.5) / 255, 3), 1.0)


def histogram_above_levels(prob_map: np.ndarray, truth: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a map, uint8 [h, w], above each level, and those inside `truth`, uint8 [h, w]: int32 [256] each."""
    if truth is None or not truth.any():
        return _count_above_levels(prob_map, None), np.zeros(LEVELS, np.int32)
    return _count_above_levels(prob_map, None), _count_above_levels(prob_map, truth.astype(np.uint8))


def _count_above_levels(prob_map: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Counts above each level. Level 0 is not summed: OpenCV counts in float32, which is too coarse for its pixels."""
    histogram = cv2.calcHist([prob_map], [0], mask, [LEVELS], [0, LEVELS]).ravel().astype(np.int32)
    return np.append(np.cumsum(histogram[:0:-1], dtype=np.int32)[::-1], np.int32(0))


def has_mask(params: PostprocessingParams, histograms: LevelHistograms, prob: np.ndarray) -> np.ndarray:
    """Which images get a mask, bool [n]; prob, float64 [n]: stacked probabilities."""
    above_top = histograms.area_above[:, score_to_level(params.top_score_threshold)]
    area_above = scale_areas(above_top, histograms.pixel_count, params.reference_size)
    return (area_above >= params.min_area) & passes_thresholds(params, histograms, prob)


def passes_thresholds(params: PostprocessingParams, histograms: LevelHistograms | None, prob: np.ndarray) -> np.ndarray:
    """Which images reach both probability thresholds, bool [n]; prob, float64 [n]: stacked probabilities.

    Without segmenters (histograms: None) there is no label head threshold.
    """
    passes_probability = prob >= params.probability_threshold
    if histograms is None:
        return passes_probability
    return passes_probability & (label_head_probs(histograms) >= params.label_head_threshold)


def label_head_probs(histograms: LevelHistograms) -> np.ndarray:
    """Mean probability by the label heads, [n]; 1 without a label head, so that every threshold is passed."""
    return np.where(np.isnan(histograms.label_head_prob), 1.0, histograms.label_head_prob)


def dice_per_image(params: PostprocessingParams, histograms: LevelHistograms, prob: np.ndarray) -> np.ndarray:
    """Dice of each image's final mask with the hand-drawn one, [n], in the originals' pixels."""
    with_mask = has_mask(params, histograms, prob)
    mask_area, overlap = histograms.mask_areas(params.mask_rule)
    return dice_of_areas(histograms.truth_area, with_mask * mask_area, with_mask * overlap)
