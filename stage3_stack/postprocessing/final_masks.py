"""From an image's map to its final mask in the original's pixels."""

import numpy as np

from cxr.imaging.geometry import Letterbox, resize_image
from stage3_stack.postprocessing.components import drop_small_components, restore_map
from stage3_stack.postprocessing.thresholds import MaskRule, score_to_level


def final_mask(prob_map: np.ndarray, box: Letterbox, rule: MaskRule) -> np.ndarray:
    """The mask of a map, uint8 [s, s], in the original, bool [height, width]; box: as the image was prepared.

    Small components are dropped on the map's canvas, as they were when the thresholds were chosen. The map is
    enlarged before it is thresholded, so that edges are smooth.
    """
    return restore_map(drop_small_components(prob_map, rule, box), box) > score_to_level(rule.bottom_score_threshold)


def kept_component_areas(
    prob_map: np.ndarray, truth: np.ndarray | None, component_rules: list[MaskRule], box: Letterbox
) -> np.ndarray:
    """Areas of one image's final masks under several rules, without drawing those that are empty.

    prob_map: uint8 [s, s], probability * 255
    truth: the hand-drawn mask of the original, bool [height, width]; None if it has none
    component_rules: the rules to apply
    box: how the original lies on its canvas

    Returns int64 [rules, 2]: pixels of the original in the mask, and those of them inside `truth`.
    """
    areas = np.zeros((len(component_rules), 2), np.int64)
    for row, rule in enumerate(component_rules):
        if (prob_map > score_to_level(rule.bottom_score_threshold)).any():
            mask = final_mask(prob_map, box, rule)
            areas[row] = mask.sum(), 0 if truth is None else (mask & truth).sum()
    return areas


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask, [s, s] of 0 or 1, on a canvas of another size, uint8 [size, size]: pixels at least half inside."""
    return (resize_image(mask.astype(np.uint8) * 255, size, size) >= 128).astype(np.uint8)
