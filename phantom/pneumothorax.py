"""Air in the pleural space: how far each lung is drawn off the chest wall, and what a reader would outline.

Lengths, angles, rates and shades without a source are chosen by eye.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from phantom.geometry import SUBPIXEL, Projection, compute_polygon_area, to_fixed_point
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


def sample_pneumothoraces(
    rng: np.random.Generator, min_share: float, max_share: float, both_sides_rate: float
) -> list[Pneumothorax]:
    """One, sometimes two; the share of the image is log-uniform between min_share and max_share."""
    share = float(np.exp(rng.uniform(np.log(min_share), np.log(max_share))))
    side = int(rng.choice([-1, 1]))
    if share > 3 * min_share and rng.random() < both_sides_rate:
        first_share = share * rng.uniform(0.3, 0.7)
        return [sample_pneumothorax(rng, side, first_share), sample_pneumothorax(rng, -side, share - first_share)]
    return [sample_pneumothorax(rng, side, share)]


def sample_pneumothorax(rng: np.random.Generator, side: int, share: float) -> Pneumothorax:
    """A small one is an apical cap or a thin rim, a large one takes the whole side."""
    kind_probabilities = (
        (0.55, 0.30, 0.15, 0) if share < 0.012 else (0.32, 0.52, 0.16, 0) if share < 0.035 else (0.05, 0.40, 0.05, 0.50)
    )
    kind = str(rng.choice(list(KINDS), p=kind_probabilities))
    angle, arc = KINDS[kind]
    arc_scale = float(np.clip((share / 0.02) ** 0.25, 0.45, 1.25))
    return Pneumothorax(
        kind,
        side,
        share,
        angle + rng.normal(0, 0.15),
        arc * arc_scale * rng.uniform(0.85, 1.2),
        (rng.uniform(0, 0.22), rng.uniform(0, 2 * np.pi)),
    )


def compute_retraction(lung: Lung, air: Pneumothorax) -> np.ndarray:
    """The profile of the retraction along the lung's outline, 0..1: [n]."""
    x, y = lung.lateral_offsets.T
    angle = np.arctan2(y, x)
    angular_distance = np.abs((angle - air.angle + np.pi) % (2 * np.pi) - np.pi) / air.arc
    profile = np.where(angular_distance < 1, np.cos(np.clip(angular_distance, 0, 1) * np.pi / 2) ** 1.2, 0)
    profile = np.maximum(profile * lung.mobility - 0.05, 0)
    return profile * (1 + air.ripple[0] * np.sin(3 * angle + air.ripple[1])) / (1 + air.ripple[0])


def collapse_lung(lung: Lung, air: Pneumothorax, target_area: float) -> Lung:
    """The lung retracted until the air beside it covers `target_area` cm^2, or as far as a lung can go."""
    profile = compute_retraction(lung, air)
    low, high = 0.0, 0.82
    for _ in range(24):
        middle = (low + high) / 2
        air_area = compute_polygon_area(lung.cavity) - compute_polygon_area(
            lung.retract_surface(middle * profile).surface
        )
        low, high = (middle, high) if air_area < target_area else (low, middle)
    return lung.retract_surface(high * profile)


def draw_air_mask(lungs: list[Lung], projection: Projection) -> np.ndarray:
    """The pleural air: bool [size, size]."""
    mask = np.zeros((projection.size, projection.size), np.uint8)
    for lung in lungs:
        if lung.surface is not lung.cavity:
            cv2.fillPoly(mask, [to_fixed_point(projection(lung.cavity))], 1, cv2.LINE_8, SUBPIXEL)
            cv2.fillPoly(mask, [to_fixed_point(projection(lung.surface))], 0, cv2.LINE_8, SUBPIXEL)
    return mask.astype(bool)


def trace_pleural_line(lung: Lung) -> list[np.ndarray]:
    """The visceral pleura where it has left the wall: paths [n, 2] in cm."""
    separation = np.hypot(*(lung.cavity - lung.surface).T)
    separated_points = np.flatnonzero(separation > 0.08)
    runs = (
        np.split(separated_points, np.flatnonzero(np.diff(separated_points) > 1) + 1) if len(separated_points) else []
    )
    return [lung.surface[run] for run in runs if len(run) > 3]
