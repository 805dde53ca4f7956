"""One final mask beside the hand-drawn one: pixels, lesions, surface distance, as columns of tables.CASES."""

import cv2
import numpy as np

TOLERANCE, SIDE = 5, 1024
"""Pixels by which two outlines may differ, in an image of that side."""


def judged(truth: np.ndarray, found: np.ndarray) -> dict[str, int | float]:
    """truth, found, overlap (pixels), lesions, hit, extra (connected parts), nsd of two masks [height, width].

    Any non-zero is inside. Raises ValueError where the shapes differ.
    """
    truth, found = np.asarray(truth) != 0, np.asarray(found) != 0
    if truth.shape != found.shape:
        raise ValueError(f"masks of shapes {truth.shape} and {found.shape}")
    both = truth & found
    lesions, hit = parts(truth, both)
    drawn, right = parts(found, both)
    pixels = {"truth": int(truth.sum()), "found": int(found.sum()), "overlap": int(both.sum())}
    return pixels | {"lesions": lesions, "hit": hit, "extra": drawn - right, "nsd": surface_dice(truth, found)}


def parts(mask: np.ndarray, touching: np.ndarray) -> tuple[int, int]:
    """Connected parts (8-connected) of a mask [height, width], and how many of them hold a pixel of `touching`."""
    count, label = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return count - 1, len(np.unique(label[touching & mask]))


def surface_dice(truth: np.ndarray, found: np.ndarray, tolerance: float | None = None) -> float:
    """Normalised surface distance of masks, bool [height, width]: the share of both outlines that lies near the other.

    tolerance: in pixels; by default 5 of 1024 of the longer side. Both empty: 1; one empty: 0. (Nikolov et al.,
    J Med Internet Res 2021; equals MONAI's compute_surface_dice: MONAI is no package that a run needs.)
    """
    if not truth.any() or not found.any():
        return float(truth.any() == found.any())
    tolerance = TOLERANCE * max(truth.shape) / SIDE if tolerance is None else tolerance
    ours, theirs = (_outline(mask) for mask in _cropped(truth, found))
    near = (_distance(theirs)[ours] <= tolerance).sum() + (_distance(ours)[theirs] <= tolerance).sum()
    return float(near / (ours.sum() + theirs.sum()))


def _cropped(truth: np.ndarray, found: np.ndarray) -> list[np.ndarray]:
    """Both masks cut to where either is, with a rim of one empty pixel."""
    x, y, width, height = cv2.boundingRect((truth | found).astype(np.uint8))
    return [np.pad(mask[y : y + height, x : x + width], 1) for mask in (truth, found)]


def _outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of the mask that have one of their four neighbours outside."""
    inner = cv2.erode(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    return mask & (inner == 0)


def _distance(outline: np.ndarray) -> np.ndarray:
    """Distance of every pixel to the outline."""
    return cv2.distanceTransform((~outline).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
