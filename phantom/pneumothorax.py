"""Air in the pleural space: how far each lung is drawn off the chest wall, and the mask of the air.

Kinds, chances, arcs and sizes are chosen by eye.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from phantom.config import PhantomConfig
from phantom.geometry import SUBPIXEL, Projection, compute_polygon_area, to_fixed_point
from phantom.lungs import Lung, TensionEffects

# Where the air gathers: angle about the hilum (0 lateral, -pi/2 the apex) and half of the arc that a large one takes.
KINDS = {"apical": (-1.25, 1.0), "lateral": (-0.35, 1.5), "basal": (0.85, 0.8), "tension": (-0.2, 2.6)}
# Chance of each kind, for air that covers less than a share of the image.
KIND_PROBABILITIES = (
    (0.012, (0.55, 0.30, 0.15, 0)),
    (0.035, (0.32, 0.52, 0.16, 0)),
    (np.inf, (0.05, 0.40, 0.05, 0.50)),
)
MAX_RETRACTION = 0.82  # how far a lung collapses, as a share of its distance from the hilum


@dataclass(frozen=True)
class Pneumothorax:
    """The air of one side."""

    kind: str  # one of KINDS
    side: int  # -1 the patient's right, 1 left
    share: float  # of the image, that the air should cover
    angle: float  # about the hilum, radians
    arc: float  # half of the arc that the air takes, radians
    ripple: tuple[float, float]  # how wavy the lung's edge is: amplitude 0..1 and phase


def choose_pneumothoraces(rng: np.random.Generator, positive: bool | None, config: PhantomConfig) -> list[Pneumothorax]:
    """The pneumothoraces of one image, none in most; `positive` overrides the drawn label unless it is None."""
    is_positive = rng.random() < config.positive_share
    pneumothoraces = sample_pneumothoraces(rng, config)
    return pneumothoraces if (is_positive if positive is None else positive) else []


def sample_pneumothoraces(rng: np.random.Generator, config: PhantomConfig) -> list[Pneumothorax]:
    """One, sometimes two; their share of the image is log-uniform between the config's least and most."""
    share = float(np.exp(rng.uniform(np.log(config.least_share), np.log(config.most_share))))
    side = int(rng.choice([-1, 1]))
    if share > 3 * config.least_share and rng.random() < config.both_sides:
        first_share = share * rng.uniform(0.3, 0.7)
        return [sample_pneumothorax(rng, side, first_share), sample_pneumothorax(rng, -side, share - first_share)]
    return [sample_pneumothorax(rng, side, share)]


def sample_pneumothorax(rng: np.random.Generator, side: int, share: float) -> Pneumothorax:
    """The air of one side: an apical cap or a thin rim where it is small, the whole side where it is large."""
    kind_probabilities = next(probabilities for limit, probabilities in KIND_PROBABILITIES if share < limit)
    kind = str(rng.choice(list(KINDS), p=kind_probabilities))
    angle, arc = KINDS[kind]
    arc_scale = float(np.clip((share / 0.02) ** 0.25, 0.45, 1.25))
    angle += rng.normal(0, 0.15)
    arc = arc * arc_scale * rng.uniform(0.85, 1.2)
    return Pneumothorax(kind, side, share, angle, arc, (rng.uniform(0, 0.22), rng.uniform(0, 2 * np.pi)))


def compute_tension_effects(pneumothoraces: list[Pneumothorax]) -> TensionEffects:
    """How far the mediastinum is pushed away from the air, and how flat each dome is pressed."""
    shift, dome_flattening = 0.0, [0.0, 0.0]
    for air in pneumothoraces:
        if air.kind == "tension":
            shift -= air.side * min(0.8 + 30 * air.share, 2.8)
            dome_flattening[(air.side + 1) // 2] = min(8 * air.share, 0.55)
    return TensionEffects(shift, (dome_flattening[0], dome_flattening[1]))


def compute_retraction(lung: Lung, air: Pneumothorax) -> np.ndarray:
    """How far each point of the lung's outline leaves the wall, relative to the farthest: [n], 0..1."""
    x, y = lung.lateral_offsets.T
    angle = np.arctan2(y, x)
    angular_distance = np.abs((angle - air.angle + np.pi) % (2 * np.pi) - np.pi) / air.arc
    profile = np.where(angular_distance < 1, np.cos(np.clip(angular_distance, 0, 1) * np.pi / 2) ** 1.2, 0)
    profile = np.maximum(profile * lung.mobility - 0.05, 0)
    return profile * (1 + air.ripple[0] * np.sin(3 * angle + air.ripple[1])) / (1 + air.ripple[0])


def collapse_lung(lung: Lung, air: Pneumothorax, target_area: float) -> Lung:
    """The lung retracted until the air beside it covers `target_area` cm^2, or as far as a lung collapses."""
    profile = compute_retraction(lung, air)
    low, high = 0.0, MAX_RETRACTION
    for _ in range(24):  # halvings
        middle = (low + high) / 2
        lung_area = compute_polygon_area(lung.retract_surface(middle * profile).surface)
        air_area = compute_polygon_area(lung.cavity) - lung_area
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
    runs = np.split(separated_points, np.flatnonzero(np.diff(separated_points) > 1) + 1)
    return [lung.surface[run] for run in runs if len(run) > 3]
