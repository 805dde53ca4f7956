"""Small pictures of one image: what a reader drew, what the networks found, and where the classifiers look."""

import cv2
import numpy as np

from cxr.geometry import resize
from pipeline.figure import ORANGE, SKY, YELLOW
from pipeline.known import MASK_STACK, Known, deciding
from pipeline.report.blocks import Picture, photograph

SIDE = 256
LEGEND = "Yellow line: drawn by hand; blue: the final mask; orange: the chest box. Bright in the maps: high."


def panels(known: Known, cams: list[np.ndarray]) -> list[tuple[str, Picture]]:
    """Caption and picture: the image, the final mask, the map that decided, the mean Grad-CAM; of those there are.

    cams: uint8 [s, s] of each classifier, full frame.
    """
    gray = _gray(known)
    found = [(f"truth{' and box' if known.box else ''}", _outlined(_boxed(gray, known), known))]
    if known.final is not None:
        caption = "final mask" if known.final.any() else "final mask: empty"
        found.append((caption, _outlined(_tinted(gray, known.final), known)))
    if known.maps:
        heat = deciding(known)
        kind = MASK_STACK if MASK_STACK in known.maps else f"mean map of {len(known.maps)}"
        found.append((f"{kind}, highest {heat.max():.2f}", _outlined(_heated(gray, heat), known)))
    if cams:
        mean = np.mean([cam / 255 for cam in cams], axis=0)
        found.append((f"Grad-CAM, mean of {len(cams)}", _outlined(_heated(gray, mean / max(mean.max(), 1e-9)), known)))
    return [(caption, photograph(pixels, f"{known.image_id}: {caption}")) for caption, pixels in found]


def _gray(known: Known) -> np.ndarray:
    return np.repeat(resize(known.canvas, SIDE, SIDE)[..., None], 3, axis=2)


def _rgb(colour: str) -> tuple[int, int, int]:
    return tuple(bytes.fromhex(colour[1:]))


def _boxed(image: np.ndarray, known: Known) -> np.ndarray:
    if known.box is None:
        return image
    xmin, ymin, xmax, ymax = (round(edge) for edge in known.box.scaled(SIDE / known.canvas.shape[0]))
    return cv2.rectangle(image.copy(), (xmin, ymin), (xmax - 1, ymax - 1), _rgb(ORANGE), 1)


def _outlined(image: np.ndarray, known: Known) -> np.ndarray:
    if known.truth is None or not known.truth.any():
        return image
    mask = (resize(known.truth.astype(np.uint8) * 255, SIDE, SIDE) > 63).astype(np.uint8)  # a small one stays
    lines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), lines, -1, _rgb(YELLOW), 1)


def _tinted(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    strength = resize(mask.astype(np.float32), SIDE, SIDE)[..., None] * 0.6
    return (image * (1 - strength) + np.array(_rgb(SKY)) * strength).astype(np.uint8)


def _heated(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """heat: [s, s] of 0 to 1."""
    from matplotlib import colormaps

    heat = resize(heat.astype(np.float32), SIDE, SIDE)
    strength = np.clip(1.5 * heat, 0, 0.7)[..., None]
    return (image * (1 - strength) + 255 * colormaps["inferno"](heat)[..., :3] * strength).astype(np.uint8)
