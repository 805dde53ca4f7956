"""When is a mask drawn, and which pixels are it: the decision, and what each image's map holds for it.

The triplet (top score, least area, bottom score) is the first place's (sneddy); the gate on the
stacked classifier's probability is the rank-47 solution's, the gate on the segmenters' own label heads the
fourth place's, the least component nguyen's. 8-bit maps have 256 levels, so each image's areas above every
level tell all that any decision can do to it; only dropped components have to be counted one by one.
"""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np

from evaluation.metrics import dice_of_areas
from stage3_stack.config import GridConfig

LEVELS = 256


class MaskRule(NamedTuple):
    """Which pixels a mask is: those above bottom_score_threshold, in connected parts of at least min_component_area."""

    bottom_score_threshold: float
    min_component_area: float
    reference_size: float


class PostprocessingParams(NamedTuple):
    """A mask is drawn where both probabilities reach theirs and min_area pixels score above top_score_threshold.

    It is the pixels above bottom_score_threshold, without connected parts of under min_component_area. Areas are
    pixels of an image that has reference_size**2 of them.
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
        return MaskRule(self.bottom_score_threshold, self.min_component_area, self.reference_size)


PLAIN_PARAMS = PostprocessingParams(0.5, 0, 0.5, 0.0)
"""What one gets without choosing: every pixel above .5."""


@dataclass(frozen=True)
class LevelHistograms:
    """Of each image's map, brought back to the original: all that decisions and their Dice depend on."""

    area_above: np.ndarray
    """int32 [n, 256]: pixels of the original above each level"""
    overlap_above: np.ndarray
    """int32 [n, 256]: those of them inside the hand-drawn mask"""
    truth_area: np.ndarray
    """int64 [n]: pixels of the hand-drawn mask"""
    label_head_prob: np.ndarray
    """float64 [n]: probability of a pneumothorax by the segmenters' label heads; NaN where none has one"""
    component_count: np.ndarray
    """int64 [n]: connected parts of the map above .5"""
    kept_areas: dict[MaskRule, np.ndarray]
    """int64 [n, 2] for each cut that drops parts: pixels that stay, and those of them inside the hand-drawn mask"""
    pixel_count: np.ndarray
    """int64 [n]: pixels of the original"""

    def __getitem__(self, rows: np.ndarray) -> "LevelHistograms":
        kept_areas = {rule: areas[rows] for rule, areas in self.kept_areas.items()}
        arrays = (
            array[rows]
            for array in (
                self.area_above,
                self.overlap_above,
                self.truth_area,
                self.label_head_prob,
                self.component_count,
            )
        )
        return LevelHistograms(*arrays, kept_areas, self.pixel_count[rows])

    def mask_areas(self, rule: MaskRule) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of each image's mask under a cut, and those of them inside the hand-drawn mask, [n] each."""
        if not rule.min_component_area:
            return self.area_above[:, score_to_level(rule.bottom_score_threshold)], self.overlap_above[
                :, score_to_level(rule.bottom_score_threshold)
            ]
        return self.kept_areas[rule][:, 0], self.kept_areas[rule][:, 1]


def list_component_rules(grid_or_params: GridConfig | PostprocessingParams) -> list[MaskRule]:
    """The cuts of a grid or of a decision that drop connected parts; the others need no counting of their own."""
    if isinstance(grid_or_params, PostprocessingParams):
        return [grid_or_params.mask_rule] if grid_or_params.min_component_area else []
    min_areas = [min_area for min_area in grid_or_params.min_component_areas if min_area]
    return (
        [
            MaskRule(*bottom_and_min_area, grid_or_params.reference_size)
            for bottom_and_min_area in product(grid_or_params.bottom_score_thresholds, min_areas)
        ]
        if min_areas
        else []
    )


def scale_areas(areas: np.ndarray, pixel_count: np.ndarray, reference_size: float) -> np.ndarray:
    """Areas in images of so many pixels as areas of the settings; exact where the result is a whole number."""
    return areas * float(reference_size) ** 2 / pixel_count


def score_to_level(score: float) -> int:
    """The 8-bit level that a pixel must exceed for its probability to exceed `score`."""
    return int(np.floor(score * 255 + 1e-9))


def level_to_score(level: int) -> float:
    """A score of three digits that just the pixels above a level exceed."""
    return min(round((level + 0.5) / 255, 3), 1.0)


def histogram_above_levels(prob_map: np.ndarray, truth: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a map, uint8 [h, w], above each level, and those inside `truth` (uint8 [h, w]), int32 [256] each."""
    if truth is None or not truth.any():
        return _count_above_levels(prob_map, None), np.zeros(LEVELS, np.int32)
    return _count_above_levels(prob_map, None), _count_above_levels(prob_map, truth.astype(np.uint8))


def _count_above_levels(prob_map: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Summed from the top, so that level 0, whose pixels may be more than float32 can count, plays no part."""
    histogram = cv2.calcHist([prob_map], [0], mask, [LEVELS], [0, LEVELS]).ravel().astype(np.int32)
    return np.append(np.cumsum(histogram[:0:-1], dtype=np.int32)[::-1], np.int32(0))


def has_mask(params: PostprocessingParams, histograms: LevelHistograms, prob: np.ndarray) -> np.ndarray:
    """Which images get a mask, bool [n]."""
    area_above = scale_areas(
        histograms.area_above[:, score_to_level(params.top_score_threshold)],
        histograms.pixel_count,
        params.reference_size,
    )
    return (area_above >= params.min_area) & passes_thresholds(params, histograms, prob)


def passes_thresholds(params: PostprocessingParams, histograms: LevelHistograms | None, prob: np.ndarray) -> np.ndarray:
    """Which images pass both gates, bool [n]; without segmenters (histograms: None) there is but one."""
    passes_probability = prob >= params.probability_threshold
    return (
        passes_probability
        if histograms is None
        else passes_probability & (label_head_probs(histograms) >= params.label_head_threshold)
    )


def label_head_probs(histograms: LevelHistograms) -> np.ndarray:
    """What the gate on label heads is asked of, [n]; 1 where there is no label head, and so no gate to close."""
    return np.where(np.isnan(histograms.label_head_prob), 1.0, histograms.label_head_prob)


def dice_per_image(params: PostprocessingParams, histograms: LevelHistograms, prob: np.ndarray) -> np.ndarray:
    """Dice of each image under a decision, [n], in the original's pixels."""
    with_mask = has_mask(params, histograms, prob)
    mask_area, overlap = histograms.mask_areas(params.mask_rule)
    return dice_of_areas(histograms.truth_area, with_mask * mask_area, with_mask * overlap)
