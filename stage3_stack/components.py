"""Connected parts of a map above a level: how large they are, and a map without the small ones."""

import cv2
import numpy as np

from cxr.geometry import Letterbox
from stage3_stack.thresholds import Cut, level, scaled


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


def restored(found: np.ndarray, box: Letterbox) -> np.ndarray:
    """A map of the canvas, uint8 [s, s] of any side, as the original's [height, width]; box: as it was prepared."""
    return box.restore(found)


def kept(found: np.ndarray, truth: np.ndarray | None, tried: list[Cut], box: Letterbox) -> np.ndarray:
    """Pixels of the original that stay under each cut, and those of them inside `truth`: int64 [cuts, 2].

    found: a map, uint8 [s, s]; truth: the hand-drawn mask of the original, bool [height, width].
    """
    areas = np.zeros((len(tried), 2), np.int64)
    for place, cut in enumerate(tried):
        if (found > level(cut.bottom)).any():
            mask = restored(pruned(found, cut, box), box) > level(cut.bottom)
            areas[place] = mask.sum(), 0 if truth is None else (mask & truth).sum()
    return areas


def pruned(found: np.ndarray, cut: Cut, box: Letterbox) -> np.ndarray:
    """The map with the parts that a cut drops set to 0; what stays, stays as it was."""
    if not cut.least_component:
        return found
    numbers, areas = parts(found, level(cut.bottom))
    drops = scaled(areas, box.place(len(found)).area, cut.reference_size) < cut.least_component
    drops[0] = False
    return np.where(drops[numbers], 0, found).astype(np.uint8)
