"""Augmentations of the published recipes, through albumentations (its last MIT release)."""

import os
from functools import cache
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import Field, NonNegativeFloat

from cxr.config import StrictModel

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer release


Probability = Annotated[float, Field(ge=0, le=1)]


class Augmentation(StrictModel):
    """Probabilities and strengths; everything is off by default."""

    hflip: Probability = 0.0
    rotate: Probability = 0.0
    """Probability of a rotation: by N(0, rotate_sd) degrees, or evenly within +-rotate_limit where that is given."""
    rotate_sd: NonNegativeFloat = 2.0
    rotate_limit: NonNegativeFloat | None = None
    shear: Probability = 0.0
    """Probability of a shear by up to shear_limit degrees."""
    shear_limit: float = Field(7.0, ge=0, lt=90)
    scale: Probability = 0.0
    """Probability of a change of size by up to scale_limit, about the centre."""
    scale_limit: float = Field(0.1, ge=0, lt=1)
    zoom_out: Probability = 0.0
    """Probability that the image shrinks to .7 to .9 of its side."""
    zoom_in: Probability = 0.0
    """Probability that a window of .7 to .9 of the side fills the frame; a mask lies in it, but for a turn."""
    border: Literal["repeat", "black"] = "repeat"
    """What comes in from outside; the mask is empty there."""
    gamma: dict[float, float] = {}
    """Gamma exponents and their probabilities: {1.0: .3, .8: .35, ...}."""
    clahe: Probability = 0.0
    """Probability of contrast-limited histogram equalisation, clip 2, 8 x 8 tiles."""
    brightness: Probability = 0.0
    """Probability of a shift of brightness by up to brightness_limit of the full range."""
    brightness_limit: Probability = 0.2
    contrast: Probability = 0.0
    """Probability of contrast within contrast_range or, half of the time with clahe_too, CLAHE."""
    contrast_range: tuple[float, float] = (0.8, 1.2)
    clahe_too: bool = True
    distort: Probability = 0.0
    """Probability of an elastic, grid or optical distortion."""
    noise: Probability = 0.0
    """Probability of Gaussian noise, standard deviation up to 8 gray levels."""
    dropout: Probability = 0.0
    """Probability of black squares, dropout_count of them, dropout_side of the side wide; the mask stays."""
    dropout_count: tuple[int, int] = (20, 150)
    dropout_side: float = Field(0.01, gt=0, lt=1)


def augment_image(
    settings: Augmentation, image: np.ndarray, mask: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Augment a gray image uint8 [h, w] and its mask (0 or 1), with random numbers from `rng` alone.

    settings: kinds of augmentation with their probabilities and limits.
    image: uint8 [h, w].
    mask: 0 or 1, [h, w]; None: none.
    """
    image, mask = _warp_image(settings, image, mask, rng)
    if settings.gamma:
        exponents, weights = zip(*settings.gamma.items(), strict=True)
        image = cv2.LUT(image, _gamma_table(rng.choice(exponents, p=np.array(weights) / sum(weights))))
    transform = _build_pixelwise_transform(settings.model_dump_json(include=PIXELWISE_SETTINGS))
    if transform is None:
        return image, mask
    transform.set_random_seed(int(rng.integers(2**31)))
    transformed = transform(image=image, mask=np.zeros_like(image) if mask is None else mask)
    return transformed["image"], None if mask is None else transformed["mask"]


def _warp_image(settings: Augmentation, image: np.ndarray, mask: np.ndarray | None, rng: np.random.Generator):
    """Mirror, turn, shear and zoom in one resampling, so that fine lines are blurred once."""
    if rng.random() < settings.hflip:
        image, mask = image[:, ::-1], None if mask is None else mask[:, ::-1]
    image, mask = np.ascontiguousarray(image), None if mask is None else np.ascontiguousarray(mask)
    matrix = _draw_affine_matrix(settings, image.shape, mask, rng)
    if matrix is None:
        return image, mask
    size, border = image.shape[::-1], cv2.BORDER_REPLICATE if settings.border == "repeat" else cv2.BORDER_CONSTANT
    image = cv2.warpAffine(image, matrix, size, borderMode=border)
    return image, None if mask is None else cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST)


def _draw_affine_matrix(
    settings: Augmentation, shape: tuple[int, int], mask: np.ndarray | None, rng
) -> np.ndarray | None:
    """The affine map [2, 3] of this sample, None where nothing moves."""
    angle = _draw_angle(settings, rng) if rng.random() < settings.rotate else 0.0
    shear = rng.uniform(-1, 1) * settings.shear_limit if rng.random() < settings.shear else 0.0
    scale = 1 + rng.uniform(-1, 1) * settings.scale_limit if rng.random() < settings.scale else 1.0
    scale *= rng.uniform(0.7, 0.9) if rng.random() < settings.zoom_out else 1.0
    window = _draw_zoom_window(shape, mask, rng) if rng.random() < settings.zoom_in else None
    if not angle and not shear and scale == 1 and window is None:
        return None
    y, x = (shape[0] - 1) / 2, (shape[1] - 1) / 2  # the middle: OpenCV counts from pixel centres
    rotation = np.vstack([cv2.getRotationMatrix2D((x, y), angle, scale), [0, 0, 1]])
    slope = np.tan(np.deg2rad(shear))
    shear_matrix = np.array([[1, slope, -slope * y], [0, 1, 0], [0, 0, 1]])
    return ((np.eye(3) if window is None else window) @ shear_matrix @ rotation)[:2]


def _draw_angle(settings: Augmentation, rng: np.random.Generator) -> float:
    limit = settings.rotate_limit
    return rng.normal(0, settings.rotate_sd) if limit is None else rng.uniform(-limit, limit)


def _draw_zoom_window(shape: tuple[int, int], mask: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """The map [3, 3] that enlarges a window of the frame to the whole; the window holds the mask if it can."""
    share = rng.uniform(0.7, 0.9)
    corner = []
    for axis, side in enumerate(shape):
        low, high = 0.0, (1 - share) * side
        mask_indices = np.flatnonzero(mask.any(axis=1 - axis)) if mask is not None else []
        if len(mask_indices) and mask_indices[-1] + 1 - mask_indices[0] <= share * side:
            low, high = max(low, mask_indices[-1] + 1 - share * side), min(high, float(mask_indices[0]))
        corner.append(rng.uniform(low, high))
    y, x = ((0.5 - edge) / share - 0.5 for edge in corner)  # from pixel centres to edges, and back
    return np.array([[1 / share, 0, x], [0, 1 / share, y], [0, 0, 1]])


@cache
def _gamma_table(exponent: float) -> np.ndarray:
    return np.clip(255 * (np.arange(256) / 255) ** exponent + 0.5, 0, 255).astype(np.uint8)


PIXELWISE_SETTINGS = {
    "clahe", "brightness", "brightness_limit", "contrast", "contrast_range", "clahe_too", "distort", "noise",
    "dropout", "dropout_count", "dropout_side",
}  # fmt: skip


@cache
def _build_pixelwise_transform(settings_json: str):
    """The albumentations pipeline of these settings (JSON), None where all probabilities are 0."""
    settings = Augmentation.model_validate_json(settings_json)
    if not any(
        (settings.clahe, settings.brightness, settings.contrast, settings.distort, settings.noise, settings.dropout)
    ):
        return None
    import albumentations as A

    low, high = settings.contrast_range
    contrast = A.RandomBrightnessContrast(0, (low - 1, high - 1), p=1)
    equalise = A.CLAHE(clip_limit=(2, 2), tile_grid_size=(8, 8), p=1)
    distortions = [A.ElasticTransform(alpha=20, sigma=5, p=1), A.GridDistortion(p=1), A.OpticalDistortion(p=1)]
    side = (settings.dropout_side, settings.dropout_side)
    steps = [
        A.RandomBrightnessContrast(settings.brightness_limit, 0, p=settings.brightness),
        A.OneOf([contrast, equalise] if settings.clahe_too else [contrast], p=settings.contrast),
        A.CLAHE(clip_limit=(2, 2), tile_grid_size=(8, 8), p=settings.clahe),
        A.OneOf(distortions, p=settings.distort),
        A.GaussNoise(std_range=(0.0, 8 / 255), p=settings.noise),
        A.CoarseDropout(settings.dropout_count, side, side, fill=0, fill_mask=None, p=settings.dropout),
    ]
    return A.Compose([step for step in steps if step.p > 0])
