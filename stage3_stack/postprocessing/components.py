"""Connected parts of a map above a level: how large they are, and a map without the small ones."""

import cv2
import numpy as np

from cxr.imaging.geometry import Letterbox
from stage3_stack.postprocessing.thresholds import MaskRule, scale_areas, score_to_level


def label_components(prob_map: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of the connected part (of eight neighbours) that each pixel of a map, uint8 [s, s], above a level lies in.

    Returns int32 [s, s], 0 where the map is not above the level, and the parts' pixels [parts + 1] by number.
    """
    count, numbers, stats, _ = cv2.connectedComponentsWithStats((prob_map > level).astype(np.uint8), connectivity=8)
    areas = stats[:count, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    return numbers, areas


def count_components(prob_map: np.ndarray) -> int:
    """How many connected parts of a map score above .5."""
    return len(label_components(prob_map, score_to_level(0.5))[1]) - 1 if (prob_map > score_to_level(0.5)).any() else 0


def restore_map(prob_map: np.ndarray, box: Letterbox) -> np.ndarray:
    """A map of the canvas, uint8 [s, s] of any side, as the original's [height, width]; box: as it was prepared."""
    return box.image_to_original(prob_map)


def kept_component_areas(
    prob_map: np.ndarray, truth: np.ndarray | None, component_rules: list[MaskRule], box: Letterbox
) -> np.ndarray:
    """Pixels of the original that stay under each cut, and those of them inside `truth`: int64 [cuts, 2].

    prob_map: uint8 [s, s]; truth: the hand-drawn mask of the original, bool [height, width].
    """
    areas = np.zeros((len(component_rules), 2), np.int64)
    for row, rule in enumerate(component_rules):
        if (prob_map > score_to_level(rule.bottom_score_threshold)).any():
            mask = restore_map(drop_small_components(prob_map, rule, box), box) > score_to_level(
                rule.bottom_score_threshold
            )
            areas[row] = mask.sum(), 0 if truth is None else (mask & truth).sum()
    return areas


def drop_small_components(prob_map: np.ndarray, rule: MaskRule, box: Letterbox) -> np.ndarray:
    """The map with the parts that a cut drops set to 0; what stays, stays as it was."""
    if not rule.min_component_area:
        return prob_map
    numbers, areas = label_components(prob_map, score_to_level(rule.bottom_score_threshold))
    is_dropped = scale_areas(areas, box.content_box(len(prob_map)).area, rule.reference_size) < rule.min_component_area
    is_dropped[0] = False
    return np.where(is_dropped[numbers], 0, prob_map).astype(np.uint8)
