"""One predicted mask compared with the true one: pixels, lesions, surface distance, as columns of tables.CASES."""

import cv2
import numpy as np

TOLERANCE_PIXELS, REFERENCE_SIDE = 5, 1024
"""Pixels by which two outlines may differ, in an image whose longer side has REFERENCE_SIDE pixels."""


def compare_masks(truth: np.ndarray, predicted: np.ndarray) -> dict[str, int | float]:
    """What the metrics of masks are computed from, of two masks [height, width]; any non-zero pixel is inside.

    Returns truth, found, overlap: pixels of the true mask, of the predicted one, and of both; lesions: connected parts
    of the true mask; hit: those that the prediction touches; extra: parts of the prediction that touch no lesion; nsd:
    `surface_dice`. Raises ValueError where the shapes differ.
    """
    truth, predicted = np.asarray(truth) != 0, np.asarray(predicted) != 0
    if truth.shape != predicted.shape:
        raise ValueError(f"masks of shapes {truth.shape} and {predicted.shape}")
    overlap = truth & predicted
    lesions, hit_lesions = count_parts(truth, overlap)
    predicted_parts, touching_parts = count_parts(predicted, overlap)
    pixels = {"truth": int(truth.sum()), "found": int(predicted.sum()), "overlap": int(overlap.sum())}
    return pixels | {
        "lesions": lesions,
        "hit": hit_lesions,
        "extra": predicted_parts - touching_parts,
        "nsd": surface_dice(truth, predicted),
    }


def count_parts(mask: np.ndarray, touching_mask: np.ndarray) -> tuple[int, int]:
    """Connected parts (8-connected) of a mask [height, width], and how many of them share a pixel with `touching_mask`.

    Both masks are bool [height, width].
    """
    count, part_numbers = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return count - 1, len(np.unique(part_numbers[touching_mask & mask]))


def surface_dice(truth: np.ndarray, predicted: np.ndarray, tolerance: float | None = None) -> float:
    """Surface Dice at a tolerance (NSD) of masks, bool [height, width]: the share of both outlines near the other one.

    tolerance: distance in pixels that counts as near; by default 5 / 1024 of the longer side. Both masks empty: 1; one
    empty: 0. (Nikolov et al., J Med Internet Res 2021. Equals MONAI's compute_surface_dice, to which a test holds it;
    a run needs no MONAI.)
    """
    if not truth.any() or not predicted.any():
        return float(truth.any() == predicted.any())
    tolerance = TOLERANCE_PIXELS * max(truth.shape) / REFERENCE_SIDE if tolerance is None else tolerance
    truth_outline, predicted_outline = (_trace_outline(mask) for mask in _crop_to_masks(truth, predicted))
    near_pixels = (_distance_to_outline(predicted_outline)[truth_outline] <= tolerance).sum() + (
        _distance_to_outline(truth_outline)[predicted_outline] <= tolerance
    ).sum()
    return float(near_pixels / (truth_outline.sum() + predicted_outline.sum()))


def _crop_to_masks(truth: np.ndarray, predicted: np.ndarray) -> list[np.ndarray]:
    """Both masks, cropped to the bounding box of their union, with a rim of one empty pixel."""
    x, y, width, height = cv2.boundingRect((truth | predicted).astype(np.uint8))
    return [np.pad(mask[y : y + height, x : x + width], 1) for mask in (truth, predicted)]


def _trace_outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask of which one of the four neighbours lies outside it, bool [height, width]."""
    inner = cv2.erode(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    return mask & (inner == 0)


def _distance_to_outline(outline: np.ndarray) -> np.ndarray:
    """Euclidean distance of every pixel to the outline, in pixels, float [height, width]."""
    return cv2.distanceTransform((~outline).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
