"""Air in the pleural space: how far each lung is drawn off the chest wall, and what a reader would outline."""

from dataclasses import dataclass

import cv2
import numpy as np

from phantom.geometry import SUBPIXEL, Projection, area, fixed
from phantom.lungs import Lung

# Where the air gathers: angle about the hilum (0 lateral, -pi/2 the apex) and half of the arc that a large one takes.
KINDS = {"apical": (-1.25, 1.0), "lateral": (-0.35, 1.5), "basal": (0.85, 0.8), "tension": (-0.2, 2.6)}


@dataclass(frozen=True)
class Pneumothorax:
    """One side's air: kind, side (-1 or 1) and the share of the image that it should cover."""

    kind: str
    side: int
    share: float
    angle: float
    arc: float
    ripple: tuple[float, float]


def draw_pneumothoraces(rng: np.random.Generator, least: float, most: float, both: float) -> list[Pneumothorax]:
    """One, sometimes two; the share of the image is log-uniform between least and most."""
    share = float(np.exp(rng.uniform(np.log(least), np.log(most))))
    side = int(rng.choice([-1, 1]))
    if share > 3 * least and rng.random() < both:
        first = share * rng.uniform(0.3, 0.7)
        return [draw_one(rng, side, first), draw_one(rng, -side, share - first)]
    return [draw_one(rng, side, share)]


def draw_one(rng: np.random.Generator, side: int, share: float) -> Pneumothorax:
    """A small one is an apical cap or a thin rim, a large one takes the whole side."""
    chances = (
        (0.55, 0.30, 0.15, 0) if share < 0.012 else (0.32, 0.52, 0.16, 0) if share < 0.035 else (0.05, 0.40, 0.05, 0.50)
    )
    kind = str(rng.choice(list(KINDS), p=chances))
    angle, arc = KINDS[kind]
    narrow = float(np.clip((share / 0.02) ** 0.25, 0.45, 1.25))
    return Pneumothorax(
        kind,
        side,
        share,
        angle + rng.normal(0, 0.15),
        arc * narrow * rng.uniform(0.85, 1.2),
        (rng.uniform(0, 0.22), rng.uniform(0, 2 * np.pi)),
    )


def retraction(lung: Lung, air: Pneumothorax) -> np.ndarray:
    """The profile of the retraction along the lung's outline, 0..1: [n]."""
    x, y = lung.lateral.T
    angle = np.arctan2(y, x)
    away = np.abs((angle - air.angle + np.pi) % (2 * np.pi) - np.pi) / air.arc
    profile = np.where(away < 1, np.cos(np.clip(away, 0, 1) * np.pi / 2) ** 1.2, 0)
    profile = np.maximum(profile * lung.free - 0.05, 0)
    return profile * (1 + air.ripple[0] * np.sin(3 * angle + air.ripple[1])) / (1 + air.ripple[0])


def collapse(lung: Lung, air: Pneumothorax, wanted: float) -> Lung:
    """The lung retracted until the air beside it covers `wanted` cm^2, or as far as a lung can go."""
    profile = retraction(lung, air)
    low, high = 0.0, 0.82
    for _ in range(24):
        middle = (low + high) / 2
        covered = area(lung.cavity) - area(lung.retract(middle * profile).surface)
        low, high = (middle, high) if covered < wanted else (low, middle)
    return lung.retract(high * profile)


def mask_of(lungs: list[Lung], view: Projection) -> np.ndarray:
    """The pleural air: bool [size, size]."""
    mask = np.zeros((view.size, view.size), np.uint8)
    for lung in lungs:
        if lung.surface is not lung.cavity:
            cv2.fillPoly(mask, [fixed(view(lung.cavity))], 1, cv2.LINE_8, SUBPIXEL)
            cv2.fillPoly(mask, [fixed(view(lung.surface))], 0, cv2.LINE_8, SUBPIXEL)
    return mask.astype(bool)


def pleural_line(lung: Lung) -> list[np.ndarray]:
    """The visceral pleura where it has left the wall: paths [n, 2] in cm."""
    gap = np.hypot(*(lung.cavity - lung.surface).T)
    off = np.flatnonzero(gap > 0.08)
    runs = np.split(off, np.flatnonzero(np.diff(off) > 1) + 1) if len(off) else []
    return [lung.surface[run] for run in runs if len(run) > 3]
