"""Connected components of a map above a level: how large they are, and the map without the small ones."""

import cv2
import numpy as np

from cxr.imaging.geometry import Letterbox
from stage3_stack.postprocessing.thresholds import MaskRule, scale_areas, score_to_level


def label_components(prob_map: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Label the connected components (of eight neighbours) of a map, uint8 [s, s], above a level.

    Returns each pixel's component, int32 [s, s], 0 where the map is not above the level, and the components' areas
    in pixels of the map, int64 [components + 1], the first of which is 0.
    """
    count, numbers, stats, _ = cv2.connectedComponentsWithStats((prob_map > level).astype(np.uint8), connectivity=8)
    areas = stats[:count, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    return numbers, areas


def count_components(prob_map: np.ndarray) -> int:
    """How many connected components of a map, uint8 [s, s], score above .5."""
    level = score_to_level(0.5)
    return len(label_components(prob_map, level)[1]) - 1 if (prob_map > level).any() else 0


def restore_map(prob_map: np.ndarray, box: Letterbox) -> np.ndarray:
    """A map of the canvas, uint8 [s, s] of any side, as the original's [height, width]; box: as it was prepared."""
    return box.image_to_original(prob_map)


def drop_small_components(prob_map: np.ndarray, rule: MaskRule, box: Letterbox) -> np.ndarray:
    """The map, uint8 [s, s], with components smaller than the rule's min_component_area set to 0."""
    if not rule.min_component_area:
        return prob_map
    numbers, areas = label_components(prob_map, score_to_level(rule.bottom_score_threshold))
    is_dropped = scale_areas(areas, box.content_box(len(prob_map)).area, rule.reference_size) < rule.min_component_area
    is_dropped[0] = False
    return np.where(is_dropped[numbers], 0, prob_map).astype(np.uint8)
