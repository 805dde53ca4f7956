"""Rib cage, clavicles, scapulae, humeri and spine, as attenuation of bone over soft tissue."""

import numpy as np

from phantom.anatomy import Patient, Pose
from phantom.geometry import Projection, blank, circle, fill, ribbon, smooth_outline, smooth_path, spread, stroke
from phantom.lungs import wall_at

CORTEX_CM = 0.13
BLADE = np.array([  # scapula, cm from its medial edge
    [0.3, 1.2], [2.6, 0.6], [4.6, 2.4], [4.0, 5.5], [2.2, 10.2], [1.2, 12.4], [0.5, 10.5], [-0.2, 6.0],
])  # fmt: skip
VERTEBRA = np.array([  # a waisted block, in shares of its half width and half height
    [-1, -1], [-0.86, 0], [-1, 1], [0, 0.9], [1, 1], [0.86, 0], [1, -1], [0, -0.9],
])  # fmt: skip


def band(
    body: np.ndarray, cortex: np.ndarray, view: Projection, path, width, depth: float, value: int = 200, rim: int = 210
) -> None:
    """A long bone in projection: a filled band with a denser rim."""
    one, other = ribbon(np.asarray(path), width)
    one, other = view(one, depth), view(other, depth)
    fill(body, np.concatenate([one, other[::-1]]), value)
    stroke(cortex, [one, other], CORTEX_CM * view.scale, int(rim))


def rib(patient: Patient, pose: Pose, top: float, drop: float, angles: np.ndarray) -> np.ndarray:
    """Part of one rib's arc: a tilted half ellipse, angle 0 at the spine, pi at the sternum: [n, 2] cm."""
    y = top + drop * (1 - np.cos(angles)) / 2
    width = wall_at(patient, pose, max(top + drop / 2, 0.3)) + 0.35
    return np.stack([width * np.sin(angles) ** 0.85, y - 0.9 * np.sin(2 * np.minimum(angles, np.pi / 2))], -1)


def draw_ribs(rng: np.random.Generator, patient: Patient, pose: Pose, view: Projection) -> np.ndarray:
    """Extra attenuation of the rib cage: float32 [size, size]. Back and front arcs cross, and add up."""
    back, front, cortex = blank(view.size), blank(view.size), blank(view.size)
    pitch = patient.lung_height * pose.inspiration / 8.8
    for k in range(11):
        top = -1.9 + pitch * k + rng.normal(0, 0.10)
        drop = patient.rib_drop * (0.55 + 0.055 * min(k, 8)) * (0.8 + 0.2 * pose.inspiration)
        width = (1.15 + 0.03 * min(k, 6)) * rng.uniform(0.92, 1.08) * (0.85 if k == 10 else 1)
        shade = 205 if k < 8 else 110  # behind the domes scatter hides them
        for side in (-1, 1):
            path = rib(patient, pose, top, drop, np.linspace(0.07, 1.62, 26)) * (side, 1)
            band(back, cortex, view, path, np.linspace(width * 0.8, width, 26), 7, shade, 0.63 * shade)
            if k < 8:
                path = rib(patient, pose, top, drop, np.linspace(1.5, 2.62, 20)) * (side, 1)
                band(front, cortex, view, path, np.linspace(width * 0.9, width * 1.25, 20), -7, 150, 75)
    blur = 0.045 * view.scale
    total = spread(back, blur) * 0.25 + spread(front, 2 * blur) * 0.23
    return (total + spread(cortex, blur) * 0.24) * np.float32(patient.calcium / 255)


def draw_shoulders(rng: np.random.Generator, patient: Patient, pose: Pose, view: Projection) -> np.ndarray:
    """Clavicles, scapulae and humeral heads: float32 [size, size]."""
    body, blade, cortex = blank(view.size), blank(view.size), blank(view.size)
    lift = rng.normal(0, 0.7) + (-1.0 if pose.view == "AP" else 0.6)
    out = patient.half_width
    for side in (-1, 1):
        own = lift + rng.normal(0, 0.4)
        path = smooth_path(
            [[1.9, 3.2 + 0.4 * own], [4.6, 2.3 + own], [8, 0.9 + own], [11.2, -0.1 + own], [out + 2.4, -0.2 + own]]
        )
        band(
            body,
            cortex,
            view,
            path * (side, 1),
            np.interp(np.linspace(0, 1, len(path)), [0, 0.15, 0.6, 1], [2.0, 1.35, 1.15, 1.5]),
            -6,
        )
        shoulder_blade(rng, blade, cortex, view, side, out - 2.6 * pose.scapula, own)
        head = np.array([out + 4.3, 2.0 + own])
        fill(body, view((head + 2.2 * circle(24)) * (side, 1)), 160)
        band(
            body,
            cortex,
            view,
            smooth_path(head + np.array([[0.5, 0.8], [1.2 + 3 * pose.arms, 9], [1.5 + 5 * pose.arms, 22]])) * (side, 1),
            2.2,
            0,
            190,
        )
    blur = 0.05 * view.scale
    total = spread(body, blur) * 0.55 + spread(blade, blur) * 0.40
    return (total + spread(cortex, blur) * 0.34) * np.float32(patient.calcium / 255)


def shoulder_blade(rng, blade, cortex, view, side, inner: float, lift: float) -> None:
    """One scapula: a thin blade whose medial edge may fall on the lung and look like a pleural line."""
    corners = np.add(BLADE, (inner, 0)) + rng.normal(0, 0.2, (8, 2)) + np.array([0, lift])
    outline = smooth_outline(corners * (side, 1), 6)
    fill(blade, view(outline, 8), 130)
    stroke(cortex, [view(np.concatenate([outline[12:34]]), 8)], 0.35 * view.scale, 220)
    stroke(cortex, [view(np.concatenate([outline[34:], outline[:2]]), 8)], 0.14 * view.scale, 150)


def draw_spine(rng: np.random.Generator, patient: Patient, pose: Pose, view: Projection) -> np.ndarray:
    """Vertebral bodies with end plates, pedicles and spinous processes: float32 [size, size]."""
    body, detail = blank(view.size), blank(view.size)
    pitch = patient.lung_height / 10.4
    curve = rng.normal(0, 0.5)
    for k in range(-5, 17):
        y = -0.5 + pitch * k * (0.8 if k < 0 else 1)
        half = 1.35 + 0.045 * max(k, 0) + (0 if k >= 0 else -0.1)
        x = curve * np.sin(k / 5)
        corners = VERTEBRA * (half, 0.41 * pitch)
        outline = view(np.add(smooth_outline(corners, 4), (x, y)), 6)
        fill(body, outline, 175)
        stroke(detail, [np.concatenate([outline, outline[:1]])], 0.13 * view.scale, 150)
        for side in (-0.62, 0.62):
            eye = view(np.array([x + side * half, y - 0.1]), 7)
            stroke(detail, [np.stack([eye, np.add(eye, (0.0, 0.35 * view.scale))])], 0.42 * view.scale, 140)
        tip = np.array([[x, y + 0.2], [x + rng.normal(0, 0.08), y + 1.0]])
        stroke(detail, [view(tip, 9)], 0.5 * view.scale, 150)
    blur = 0.07 * view.scale
    total = spread(body, 1.5 * blur) * 0.55 + spread(detail, blur) * 0.25
    return total * np.float32(patient.calcium / 255)
