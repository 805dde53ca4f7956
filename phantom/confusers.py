"""What looks like a pneumothorax but is not: bullae and skin folds, at rates that do not depend on the label.

Numbers, lengths and shades are chosen by eye.
"""

from dataclasses import dataclass

import numpy as np

from phantom.anatomy import Patient, Pose
from phantom.geometry import (
    Projection,
    blur_to_float,
    compute_ribbon_edges,
    create_layer,
    fill_outline,
    smooth_path,
    stroke_paths,
)
from phantom.lungs import Lung


@dataclass(frozen=True)
class Bulla:
    """An air space within the lung: centre [2] and outline [n, 2] in cm."""

    centre: np.ndarray
    outline: np.ndarray


def sample_bullae(rng: np.random.Generator, lungs: list[Lung], rate: float) -> list[Bulla]:
    """Up to four bullae, mostly apical: round, thin-walled, without vessels, within the lung."""
    bullae = []
    for _ in range(rng.integers(1, 5) if rng.random() < rate else 0):
        lung = lungs[rng.integers(2)]
        angle, reach = rng.normal(-1.1, 0.6), rng.uniform(0.5, 0.75)
        angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        radius = rng.uniform(0.10, 0.24)
        centre = reach * np.array([np.cos(angle), np.sin(angle)])
        circle = np.stack([np.cos(angles), np.sin(angles)], -1)
        outline = centre + radius * (1 + 0.1 * np.sin(2 * angles + rng.uniform(0, 6)))[:, None] * circle
        bullae.append(Bulla(lung.map_disc_points(centre), lung.map_disc_points(outline)))
    return bullae


def draw_bulla_walls(bullae: list[Bulla], projection: Projection) -> np.ndarray:
    """The bullae's thin walls: uint8 [size, size]."""
    layer = create_layer(projection.size)
    for bulla in bullae:
        closed_outline = np.concatenate([bulla.outline, bulla.outline[:1]])
        stroke_paths(layer, [projection(closed_outline)], 0.06 * projection.scale, 150)
    return layer


def draw_skin_folds(rng: np.random.Generator, patient: Patient, pose: Pose, rate: float) -> np.ndarray:
    """Folds of skin, each a thickness that rises towards an edge and drops there: float32 [size, size], cm.

    rng: the generator of the image's skin folds
    patient, pose: build and view
    rate: chance that there are any, 0..1
    """
    projection = pose.projection
    layer = np.zeros((projection.size, projection.size), np.float32)
    for _ in range(rng.integers(1, 4) if rng.random() < rate else 0):
        path = sample_fold_path(rng, patient.half_width, patient.lung_height * pose.inspiration)
        fold = draw_skin_fold(projection, path, rng.uniform(1.2, 4.0) * rng.choice([-1, 1]))
        layer += fold * np.float32(rng.uniform(0.5, 1.5))
    return layer


def sample_fold_path(rng: np.random.Generator, half_width: float, height: float) -> np.ndarray:
    """The edge of a skin fold on either side of a chest of that size (cm), mostly upright: [n, 2] cm."""
    side = rng.choice([-1, 1])
    x = rng.uniform(0.35, 0.95) + np.array([
        rng.normal(-0.12, 0.1), 0, rng.normal(0.03, 0.08), rng.normal(0, 0.15),
    ])  # fmt: skip
    y = np.array([0, 0.33, 0.66, 1]) * rng.uniform(0.4, 1.2) + rng.uniform(-0.15, 0.35)
    return smooth_path(np.stack([half_width * x, height * y], -1)) * (side, 1)


def draw_skin_fold(projection: Projection, path: np.ndarray, breadth: float) -> np.ndarray:
    """One fold to one side of a path [n, 2] (cm): 1 at the path, 0 at the breadth (cm): float32 [size, size]."""
    layer = create_layer(projection.size)
    taper = np.sin(np.linspace(0.05, np.pi - 0.05, len(path)))
    for k in range(8, 0, -1):
        far_edge, _ = compute_ribbon_edges(path, 2 * breadth * k / 8 * taper)
        fill_outline(layer, projection(np.concatenate([path, far_edge[::-1]])), 255 * (1 - (k - 1) / 8) ** 1.3)
    return blur_to_float(layer, 0.06 * projection.scale) / np.float32(255)
