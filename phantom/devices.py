"""Tubes, lines, leads and clips; drawn at a rate that depends on the view, never on the label."""

from collections.abc import Callable

import numpy as np

from phantom.anatomy import Patient, Pose
from phantom.geometry import Projection, blank, circle, fill, smooth_outline, smooth_path, spread, stroke

CASE = np.array([  # a pacemaker, cm
    [-2, -2], [0, -2.3], [2, -2], [2.3, 0], [1.8, 2], [0, 2.4], [-1.8, 2], [-2.3, 0],
])  # fmt: skip


def tube(layer: np.ndarray, view: Projection, path: np.ndarray, width: float, value: int) -> None:
    """A hollow tube: a faint body with two denser walls, or a plain line where it is thin."""
    stroke(layer, [view(path)], width * view.scale, value)
    if width > 0.3:
        stroke(layer, [view(path)], 0.6 * width * view.scale, value // 3)


def endotracheal(rng, layer, view, patient, pose) -> None:
    tip = 0.27 * patient.lung_height * pose.inspiration - rng.uniform(2, 5)
    x = rng.normal(0, 0.25)
    tube(layer, view, smooth_path([[x + rng.normal(0, 1), -12], [x, -5], [x + 0.1, tip]]), 1.0, 75)


def gastric(rng, layer, view, patient, pose) -> None:
    low = patient.lung_height * pose.inspiration
    tube(
        layer,
        view,
        smooth_path(
            [[0.3, -12], [0.2, 0], [0.6, 0.4 * low], [0.9, 0.8 * low], [2.6, low + 1], [5.5, low + rng.uniform(2, 5)]]
        ),
        0.42,
        95,
    )


def central_line(rng, layer, view, patient, pose) -> None:
    side = rng.choice([-1, 1], p=[0.7, 0.3])
    start = (
        [[side * rng.uniform(3, 6), -9], [side * 3.6, -3]] if rng.random() < 0.5 else [[side * 15, -1], [side * 9, 1.5]]
    )
    end = [[side * 2.4, 2.5], [-1.6, 5.5], [-2.3, rng.uniform(8, 12)]]
    tube(layer, view, smooth_path([*start, *end], 40), 0.22, 130)


def chest_tube(rng, layer, view, patient, pose) -> None:
    side, wall, high = rng.choice([-1, 1]), patient.half_width, patient.lung_height * pose.inspiration
    enter = high * rng.uniform(0.55, 0.85)
    way = [
        [wall + 7, enter + 4],
        [wall + 0.3, enter],
        [wall * rng.uniform(0.6, 0.9), high * rng.uniform(0.35, 0.5)],
        [wall * rng.uniform(0.25, 0.6), high * rng.uniform(0.1, 0.25)],
    ]
    tube(layer, view, smooth_path(way, 40) * (side, 1), rng.uniform(0.5, 0.8), 85)


def leads(rng, layer, view, patient, pose) -> None:
    wide, high = patient.half_width, patient.lung_height * pose.inspiration
    for _ in range(rng.integers(2, 5)):
        pad = np.array([rng.uniform(-1, 1) * wide, rng.uniform(0.05, 1.05) * high])
        end = np.array([np.sign(pad[0]) * wide * rng.uniform(0.4, 1.6), rng.choice([-12, high + 14])])
        mid = (pad + end) / 2 + rng.normal(0, 3, 2)
        stroke(layer, [view(smooth_path([pad, mid, end], 30))], 0.17 * view.scale, 120)
        fill(layer, view(pad + rng.uniform(0.4, 0.75) * circle(12)), 150)


def pacemaker(rng, layer, view, patient, pose) -> None:
    side = rng.choice([-1, 1], p=[0.2, 0.8])
    box = np.add(CASE, (side * 0.72 * patient.half_width, 3.2))
    fill(layer, view(smooth_outline(box, 5)), 235)
    lead = [
        [side * 9, 2.5],
        [side * 4, 1.5],
        [-1.7, 6],
        [-2.2, 12],
        [3.5, 0.72 * patient.lung_height * pose.inspiration],
    ]
    stroke(layer, [view(smooth_path(lead, 40))], 0.16 * view.scale, 200)


def sternotomy(rng, layer, view, patient, pose) -> None:
    for k in range(rng.integers(4, 7)):
        ring = np.linspace(0, 2.2 * np.pi, 14)
        loop = np.array([rng.normal(0, 0.2), 4.5 + 2.6 * k]) + np.stack(
            [1.1 * np.cos(ring), 0.35 * np.sin(ring + rng.normal(0, 0.5))], -1
        )
        stroke(layer, [view(loop, -8)], 0.10 * view.scale, 240)


# How often each is seen: PA, AP.
DEVICES = (
    (endotracheal, 0.02, 0.28),
    (gastric, 0.03, 0.28),
    (central_line, 0.10, 0.42),
    (chest_tube, 0.08, 0.16),
    (leads, 0.07, 0.60),
    (pacemaker, 0.05, 0.08),
    (sternotomy, 0.08, 0.14),
)


def draw_devices(
    rng: np.random.Generator, patient: Patient, pose: Pose, view: Projection
) -> tuple[np.ndarray, set[Callable]]:
    """Extra attenuation of foreign material, float32 [size, size], and which of DEVICES it is."""
    layer, drawn = blank(view.size), set()
    for draw, pa, ap in DEVICES:
        if rng.random() < (ap if pose.view == "AP" else pa):
            one = blank(view.size)
            drawn.add(draw)
            draw(rng, one, view, patient, pose)
            layer = np.maximum(layer, one) + np.minimum(layer, one) // 2
    return spread(layer, 0.025 * view.scale) * (1.5 / 255), drawn
