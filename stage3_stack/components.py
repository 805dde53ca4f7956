"""Connected parts of a map above a level: how large they are, and a map without the small ones."""

import cv2
import numpy as np

from stage3_stack.thresholds import Cut, level, pixels


def parts(found: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of the connected part (of eight neighbours) that each pixel of a map, uint8 [s, s], above a level lies in.

    Returns int32 [s, s], 0 where the map is not above the level, and the parts' pixels [parts + 1] by number.
    """
    count, numbers, stats, _ = cv2.connectedComponentsWithStats((found > at).astype(np.uint8), connectivity=8)
    areas = stats[:count, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    return numbers, areas


def pieces(found: np.ndarray) -> int:
    """How many connected parts of a map score above .5."""
    return len(parts(found, level(0.5))[1]) - 1 if (found > level(0.5)).any() else 0


def kept(found: np.ndarray, truth: np.ndarray | None, tried: list[Cut]) -> np.ndarray:
    """Pixels that stay under each cut, and those of them inside `truth` (uint8 [s, s]): int64 [cuts, 2]."""
    areas = np.zeros((len(tried), 2), np.int64)
    labelled: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for place, cut in enumerate(tried):
        at = level(cut.bottom)
        if at not in labelled:
            labelled[at] = _measured(found, truth, at)
        own, inside = labelled[at]
        stays = own >= pixels(cut.least_component, cut.reference_size, len(found))
        areas[place] = own[stays].sum(), inside[stays].sum()
    return areas


def _measured(found: np.ndarray, truth: np.ndarray | None, at: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of each connected part, and those of them inside the hand-drawn mask."""
    if not (found > at).any():
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    numbers, areas = parts(found, at)
    inside = np.zeros_like(areas) if truth is None else np.bincount(numbers[truth > 0], minlength=len(areas))
    return areas, inside


def pruned(found: np.ndarray, cut: Cut) -> np.ndarray:
    """The map with the parts that a cut drops set to 0; what stays, stays as it was."""
    if not cut.least_component:
        return found
    numbers, areas = parts(found, level(cut.bottom))
    drops = areas < pixels(cut.least_component, cut.reference_size, len(found))
    drops[0] = False
    return np.where(drops[numbers], 0, found).astype(np.uint8)
