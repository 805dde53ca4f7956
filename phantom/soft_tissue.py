"""Thickness of what is not bone: torso, arms, breasts, the air of lungs, airways and bowel (cm along the beam)."""

import cv2
import numpy as np

from phantom.anatomy import Patient, Pose
from phantom.geometry import (
    Projection,
    blank,
    enlarge,
    fill,
    fixed,
    smooth_outline,
    smooth_path,
    soften,
    spread,
    stroke,
)
from phantom.lungs import Lung

LUNG_EDGE_CM = 6.0  # from the lung's border to where it is thickest


def draw_torso(rng: np.random.Generator, patient: Patient, pose: Pose, view: Projection) -> np.ndarray:
    """Trunk, neck, arms and breasts: float32 [size, size]."""
    x, y = view.grid()
    out = patient.half_width + 1.6 + 3.2 * patient.fat
    levels = [-14, -7, -5, -3.4, -2.0, 0.3, 5, 9, 14, 22, 32, 45]
    widths = [
        8,
        5.8 + patient.fat,
        6.5 + 1.5 * patient.fat,
        10,
        out - 0.5,
        out + 3.2,
        out + 3.6,
        out + 1.0,
        out,
        out - 0.3,
        out - 0.6,
        out + 1,
    ]
    depths = np.array([0.75, 0.58, 0.6, 0.66, 0.74, 0.82, 0.90, 0.96, 1, 1, 1.05, 1.1]) * patient.depth
    height = np.linspace(y.min(), y.max(), 256)
    half, deep = (np.interp(height, levels, v).astype(np.float32) for v in (widths, depths))
    row = ((y - height[0]) * (255 / (height[-1] - height[0]))).astype(np.float32)
    half = cv2.remap(half[None], row, np.zeros_like(row), cv2.INTER_LINEAR)
    deep = cv2.remap(deep[None], row, np.zeros_like(row), cv2.INTER_LINEAR)
    torso = deep * profile((np.abs(x) / half) ** 2.6)
    for side in (-1, 1):
        np.maximum(torso, arm(x, y, side, patient, pose), out=torso)
        if patient.breast:
            torso += breast(rng, x, y, side, patient, pose)
    return torso


def profile(share: np.ndarray) -> np.ndarray:
    """The thickness of a round body, as a share, where `share` of the squared radius is passed."""
    return np.sqrt(np.maximum(1 - share, 0, dtype=np.float32), dtype=np.float32)


def arm(x, y, side: int, patient: Patient, pose: Pose) -> np.ndarray:
    """An upper arm hanging at the trunk's side, more or less abducted."""
    x0, y0 = patient.half_width + 5.5 + 2 * patient.fat, 3.0
    lean = 0.04 + 0.35 * pose.arms
    away = np.abs((x * side - x0) - lean * (y - y0)) / np.hypot(1, lean)
    radius = 4.6 + 2.0 * patient.fat
    above = np.maximum(y0 - y, 0)  # a round shoulder
    return (2 * radius * profile((away**2 + above**2) / radius**2)).astype(np.float32)


def breast(rng, x, y, side: int, patient: Patient, pose: Pose) -> np.ndarray:
    """A breast: thickest low, with a sharp lower fold."""
    sag = rng.normal(0, 0.6) + (0 if pose.view == "PA" else -1.5)
    centre = (0.60 * patient.half_width + rng.normal(0, 0.5), 0.68 * patient.lung_height + sag)
    dx, dy = (x * side - centre[0]) / patient.breast, (y - centre[1]) / patient.breast
    fade = np.clip(0.75 + 0.5 * dy, 0, 1)
    return 0.55 * patient.breast * fade * profile(dx * dx + dy * dy)


def inside(outlines: list[np.ndarray], view: Projection) -> np.ndarray:
    """Share of each pixel that the outlines (cm) cover: float32 [size, size]."""
    layer = blank(view.size)
    for outline in outlines:
        fill(layer, view(outline))
    return layer.astype(np.float32) / np.float32(255)


def draw_cavity(lungs: list[Lung], patient: Patient, view: Projection) -> np.ndarray:
    """Thickness of the two pleural cavities: float32 [size, size]; steep at the border, as a round body is."""
    layer = blank(view.size)
    for lung in lungs:
        cv2.fillPoly(layer, [fixed(view(lung.cavity))], 255, cv2.LINE_8, 4)
    inward = np.minimum(cv2.distanceTransform(layer, cv2.DIST_L2, 3) / np.float32(LUNG_EDGE_CM * view.scale), 1)
    thick = soften((0.15 * (layer > 0) + 0.85 * profile((1 - inward) ** 2) * (layer > 0)).astype(np.float32), 0.8)
    return thick * np.float32(patient.depth * 0.66 - 1.0 * patient.fat)


def draw_recesses(lungs: list[Lung], patient: Patient, pose: Pose, view: Projection) -> np.ndarray:
    """Lung hidden behind heart and domes: a faint blurred air thickness, float32 [size, size]."""
    height, width = patient.lung_height * pose.inspiration, patient.half_width
    hidden = np.array(
        [
            [-0.95, 0.98],
            [-0.5, 1.08],
            [0, 1.05],
            [0.5, 1.08],
            [0.95, 0.98],
            [0.6, 0.5],
            [0.15, 0.35],
            [-0.15, 0.35],
            [-0.6, 0.5],
        ]
    )
    layer = blank(view.size)
    fill(layer, view(smooth_outline(hidden * (width, height), 6)))
    return spread(layer, 1.3 * view.scale) * np.float32(0.17 * patient.depth / 255)


def draw_airways(lungs: list[Lung], patient: Patient, pose: Pose, view: Projection, shift: float) -> np.ndarray:
    """Air in the trachea and main bronchi: float32 [size, size]."""
    layer = blank(view.size)
    carina = np.array([0.3 + shift, 0.27 * patient.lung_height * pose.inspiration])
    stroke(layer, [view(smooth_path([[0, -12], [0, -3], [shift * 0.4, 2], carina]))], 1.7 * view.scale, 230)
    for lung in lungs:
        stroke(
            layer,
            [view(smooth_path([carina, (carina + lung.hilum) / 2, np.add(lung.hilum, (0.3 * lung.side, -0.4))]))],
            1.1 * view.scale,
            150,
        )
    return spread(layer, 0.22 * view.scale) * (2.6 / 255)


def draw_bowel(rng: np.random.Generator, patient: Patient, pose: Pose, view: Projection) -> np.ndarray:
    """The gastric bubble, at times, and bowel gas: float32 [size, size]."""
    layer = blank(view.size)
    top = patient.lung_height * pose.inspiration
    round_ = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    if rng.random() < 0.55:
        centre, radii = (
            np.array([rng.uniform(4.5, 8.5), top - rng.uniform(-1.8, 1.0)]),
            rng.uniform((1.8, 0.9), (4.2, 1.8)),
        )
        ring = centre + radii * np.stack(
            [np.cos(round_), np.where(pose.view == "PA", np.minimum(np.sin(round_), 0.2), np.sin(round_))], -1
        )
        fill(layer, view(smooth_outline(ring + rng.normal(0, 0.12, ring.shape), 5)), rng.integers(120, 230))
    for _ in range(rng.integers(0, 5)):
        centre = np.array([rng.uniform(-9, 11), top + rng.uniform(3.5, 9)])
        ring = centre + rng.uniform(0.7, 2.2) * rng.normal(1, 0.12, (14, 1)) * np.stack(
            [np.cos(round_), np.sin(round_)], -1
        )
        fill(layer, view(smooth_outline(ring, 5)), rng.integers(60, 200))
    return spread(layer, 0.12 * view.scale) * (5.0 / 255)


def draw_texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Fine lung markings as relative density: float32 [size, size], mean 0, deviation about 1."""
    fine, coarse = rng.standard_normal((256, 256), np.float32), rng.standard_normal((48, 48), np.float32)
    both = cv2.resize(fine, (size, size), interpolation=cv2.INTER_CUBIC) * 0.9
    return both + cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC) * 0.7


def draw_disease(
    rng: np.random.Generator, lungs: list[Lung], patient: Patient, pose: Pose, view: Projection, rate: float
) -> np.ndarray:
    """Consolidations and effusions, whatever the label: extra tissue in cm, float32 [size, size]."""
    small = view.at(64)
    x, y = small.grid()
    extra = np.zeros_like(x)
    for lung in lungs:
        for _ in range(rng.poisson(1.5) if rng.random() < rate else 0):
            centre = lung.place(rng.normal(0, 0.38, 2))
            sx, sy = rng.uniform(1.2, 4.0, 2)
            extra += rng.uniform(0.4, 2.4) * np.exp(-(((x - centre[0]) / sx) ** 2) - ((y - centre[1]) / sy) ** 2)
        if rng.random() < 0.5 * rate:
            level = patient.lung_height * pose.inspiration * (1 - rng.uniform(0.03, 0.22))
            meniscus = level - 1.6 * np.abs(x - lung.hilum[0]) / patient.half_width
            extra += 4.5 * np.clip((y - meniscus) / 3, 0, 1) * (x * lung.side > 0)
    return enlarge(extra.astype(np.float32), view.size)
