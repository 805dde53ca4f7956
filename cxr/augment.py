"""Augmentations of the published recipes, through albumentations (its last MIT release)."""

import os
from functools import cache

import cv2
import numpy as np
from pydantic import Field

from cxr.config import Strict

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer release


class Augment(Strict):
    """Probabilities and strengths; everything is off by default."""

    hflip: float = Field(default=0.0, ge=0, le=1)
    rotate: float = 0.0
    """Probability of a rotation by N(0, rotate_sd) degrees."""
    rotate_sd: float = 2.0
    gamma: dict[float, float] = {}
    """Gamma exponents and their probabilities: {1.0: .3, .8: .35, ...}."""
    clahe: float = 0.0
    """Probability of contrast-limited histogram equalisation, clip 2, 8 x 8 tiles."""
    brightness: float = 0.0
    """Probability of a shift of brightness by up to 20 %."""
    contrast: float = 0.0
    """Probability of contrast by up to 20 %, or, half of the time, CLAHE."""
    distort: float = 0.0
    """Probability of an elastic, grid or optical distortion."""
    noise: float = 0.0
    """Probability of Gaussian noise, standard deviation up to 8 gray levels."""


def augmented(
    settings: Augment, image: np.ndarray, mask: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Augment a gray image uint8 [h, w] and its mask (0 or 1), with random numbers from `rng` alone."""
    image, mask = _moved(settings, image, mask, rng)
    if settings.gamma:
        exponents, weights = zip(*settings.gamma.items(), strict=True)
        image = cv2.LUT(image, _gamma_table(rng.choice(exponents, p=np.array(weights) / sum(weights))))
    chances = (settings.clahe, settings.brightness, settings.contrast, settings.distort, settings.noise)
    pixelwise = _albumentations(*chances)
    if pixelwise is None:
        return image, mask
    pixelwise.set_random_seed(int(rng.integers(2**31)))
    found = pixelwise(image=image, mask=np.zeros_like(image) if mask is None else mask)
    return found["image"], None if mask is None else found["mask"]


def _moved(settings, image, mask, rng):
    """Flip and rotate in one affine resampling; the border is repeated in the image, empty in the mask."""
    flip = rng.random() < settings.hflip
    angle = rng.normal(0, settings.rotate_sd) if rng.random() < settings.rotate else 0.0
    if flip:
        image, mask = image[:, ::-1], None if mask is None else mask[:, ::-1]
    if angle:
        height, width = image.shape
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        image = cv2.warpAffine(np.ascontiguousarray(image), turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        if mask is not None:
            mask = cv2.warpAffine(np.ascontiguousarray(mask), turn, (width, height), flags=cv2.INTER_NEAREST)
    return np.ascontiguousarray(image), None if mask is None else np.ascontiguousarray(mask)


@cache
def _gamma_table(exponent: float) -> np.ndarray:
    return np.clip(255 * (np.arange(256) / 255) ** exponent + 0.5, 0, 255).astype(np.uint8)


@cache
def _albumentations(clahe: float, brightness: float, contrast: float, distort: float, noise: float):
    """The albumentations pipeline of these probabilities, None where all are 0."""
    if not any((clahe, brightness, contrast, distort, noise)):
        return None
    import albumentations as A

    equalise = A.CLAHE(clip_limit=(2, 2), tile_grid_size=(8, 8), p=1)
    bends = [A.ElasticTransform(alpha=20, sigma=5, p=1), A.GridDistortion(p=1), A.OpticalDistortion(p=1)]
    steps = [
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0, p=brightness),
        A.OneOf([A.RandomBrightnessContrast(0, 0.2, p=1), equalise], p=contrast),
        A.CLAHE(clip_limit=(2, 2), tile_grid_size=(8, 8), p=clahe),
        A.OneOf(bends, p=distort),
        A.GaussNoise(std_range=(0.0, 8 / 255), p=noise),
    ]
    return A.Compose([step for step in steps if step.p > 0])
