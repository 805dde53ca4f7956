"""Pulmonary vessels: trees that branch from the hilum and thin outwards, drawn where the lung lies.

Diameters, lengths, angles and shades are chosen by eye.
"""

import numpy as np

from phantom.geometry import Projection, blur_layer, blur_to_float, create_layer, smooth_path, stroke_paths
from phantom.lungs import Lung

# Diameter (cm), length (share of the lung) and visibility of each order of branches.
BRANCH_ORDERS = ((0.62, 0.26, 1.2), (0.40, 0.22, 1.7), (0.26, 0.19, 2.2), (0.17, 0.16, 2.6), (0.11, 0.13, 3.0))


def grow_vessel_tree(rng: np.random.Generator, trunks: int = 9) -> list[np.ndarray]:
    """Branches in the unit disc (x lateral, y down): one array [branches, 6, 2] for each order."""
    heading = np.linspace(-1.75, 1.75, trunks) + rng.normal(0, 0.12, trunks)
    start = 0.05 * np.stack([np.cos(heading), np.sin(heading)], -1)
    orders = []
    for _, length, _ in BRANCH_ORDERS:
        branches, heading = extend_branches(rng, start, heading, length)
        orders.append(branches)
        start, heading = fork_branches(rng, branches, heading)
    return orders


def extend_branches(
    rng: np.random.Generator, start: np.ndarray, heading: np.ndarray, length: float
) -> tuple[np.ndarray, np.ndarray]:
    """Grow curved branches of one order.

    rng: the generator of the tree
    start: where they begin, [n, 2] in the unit disc
    heading: in which direction, [n] radians
    length: their mean length, a share of the disc's radius
    Returns the branches [n, 6, 2] and the heading at their tips [n].
    """
    n = len(start)
    bend = rng.normal(0, 0.28, n)[:, None] * np.linspace(0, 1, 5) + rng.normal(0, 0.10, (n, 5))
    direction = heading[:, None] + bend
    step = (length * rng.uniform(0.7, 1.3, n) / 5)[:, None, None]
    steps = step * np.stack([np.cos(direction), np.sin(direction)], -1)
    path = np.concatenate([np.zeros((n, 1, 2)), np.cumsum(steps, 1)], 1)
    return start[:, None] + path, direction[:, -1]


def fork_branches(rng: np.random.Generator, branches: np.ndarray, heading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start points and headings of the next order: two at each tip, one on the way, none outside the lung."""
    n = len(branches)
    fork_angles = rng.uniform(0.2, 0.6, (n, 3)) * (1, -1, 1)
    fork_angles[:, 2] *= rng.choice([-1.6, 1.6], n)
    start = np.concatenate([branches[:, 5], branches[:, 5], branches[np.arange(n), rng.integers(2, 5, n)]])
    heading = (heading[:, None] + fork_angles).T.ravel()
    is_inside = np.hypot(*start.T) < 0.93
    return start[is_inside], heading[is_inside]


def draw_vessels(
    lungs: list[Lung], trees: list[list[np.ndarray]], projection: Projection, strength: float
) -> np.ndarray:
    """Tissue thickness of the vessels (cm): float32 [size, size].

    lungs: the right lung and the left one
    trees: of each lung the branches of every order, as `grow_vessel_tree` makes them
    projection: of the image
    strength: factor on the thickness, about 1
    """
    thickness = np.zeros((projection.size, projection.size), np.float32)
    for order, (diameter, _, visibility) in enumerate(BRANCH_ORDERS):
        layer, width = create_layer(projection.size), diameter * projection.scale
        for lung, tree in zip(lungs, trees, strict=True):
            stroke_paths(layer, projection(lung.map_disc_points(clip_to_pleura(tree[order]))), width)
        peak_thickness = strength * visibility * diameter
        thickness += blur_layer(layer, 0.22 * diameter * projection.scale) * np.float32(peak_thickness / 255)
    return thickness


def clip_to_pleura(branches: np.ndarray) -> np.ndarray:
    """Branches [n, 6, 2] in the unit disc, moved inwards where they would cross the pleura."""
    radius = np.hypot(branches[..., 0], branches[..., 1])
    return branches * np.minimum(1, 0.975 / np.maximum(radius, 1e-6))[..., None]


def draw_hila(rng: np.random.Generator, lungs: list[Lung], projection: Projection) -> np.ndarray:
    """Tissue thickness of the hila (cm): the pulmonary arteries and main bronchi's walls."""
    layer, scale = create_layer(projection.size), projection.scale
    for lung in lungs:
        lower_path = np.array([[-1.2, -1.2], [0.2, -0.4], [0.9, 1.2], [0.9, 3.6]]) + rng.normal(0, 0.25, (4, 2))
        lower_line = projection(lung.hilum + smooth_path(lower_path) * (lung.side, 1))
        stroke_paths(layer, [lower_line], rng.uniform(1.1, 1.6) * scale, 200)
        upper_path = np.array([[-0.4, -0.6], [0.6, -2.0], [1.4, -3.4]]) + rng.normal(0, 0.2, (3, 2))
        upper_line = projection(lung.hilum + smooth_path(upper_path) * (lung.side, 1))
        stroke_paths(layer, [upper_line], 0.9 * scale, 170)
    return blur_to_float(layer, 0.28 * scale) * (2.2 / 255)
