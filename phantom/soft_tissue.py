"""Thickness of what is not bone: torso, arms, breasts, the air of lungs, airways and bowel (cm along the beam).

Lengths (cm) and shades (0..255) without a source are chosen by eye.
"""

import cv2
import numpy as np

from phantom.anatomy import Patient, Pose
from phantom.geometry import (
    SUBPIXEL,
    Projection,
    blur_layer,
    blur_to_float,
    create_layer,
    fill_outline,
    sample_unit_circle,
    smooth_outline,
    smooth_path,
    stroke_paths,
    to_fixed_point,
    upsample_map,
)
from phantom.lungs import Lung

LUNG_EDGE_CM = 6.0  # from the lung's border to where it is thickest
TRACHEA_CM = 1.7  # 1.3 to 2.5 in men, 1.0 to 2.1 in women: Breatnach et al., AJR 1984;142:903
RECESSES = np.array([  # lung behind heart and domes, in shares of (half_width, height)
    [-0.95, 0.98], [-0.5, 1.08], [0, 1.05], [0.5, 1.08], [0.95, 0.98], [0.6, 0.5], [0.15, 0.35], [-0.15, 0.35],
    [-0.6, 0.5],
])  # fmt: skip
# The trunk from the chin to the belly: y (cm), and its depth as a share of the chest's.
TRUNK_LEVELS = (-14, -7, -5, -3.4, -2.0, 0.3, 5, 9, 14, 22, 32, 45)
TRUNK_DEPTHS = np.array([0.75, 0.58, 0.6, 0.66, 0.74, 0.82, 0.90, 0.96, 1, 1, 1.05, 1.1])
PROFILE_LEVELS = 256


def draw_torso(rng: np.random.Generator, patient: Patient, pose: Pose) -> np.ndarray:
    """Thickness of trunk, neck, arms and breasts in cm: float32 [size, size]."""
    x, y = pose.projection.compute_patient_grid()
    torso = compute_trunk_thickness(x, y, patient)
    for side in (-1, 1):
        np.maximum(torso, compute_arm_thickness(x * side, y, patient, pose), out=torso)
        if patient.breast_radius:
            torso += compute_breast_thickness(rng, x * side, y, patient, pose)
    return torso


def compute_trunk_thickness(x: np.ndarray, y: np.ndarray, patient: Patient) -> np.ndarray:
    """Thickness of trunk and neck (cm) at points x, y in cm: float32 [size, size]."""
    height = np.linspace(y.min(), y.max(), PROFILE_LEVELS)
    level = ((y - height[0]) * ((PROFILE_LEVELS - 1) / (height[-1] - height[0]))).astype(np.float32)

    def spread_profile(values: np.ndarray) -> np.ndarray:
        profile = np.interp(height, TRUNK_LEVELS, values).astype(np.float32)
        return cv2.remap(profile[None], level, np.zeros_like(level), cv2.INTER_LINEAR)

    half_width = spread_profile(compute_trunk_widths(patient))
    depth = spread_profile(TRUNK_DEPTHS * patient.depth)
    return depth * compute_round_profile((np.abs(x) / half_width) ** 2.6)


def compute_trunk_widths(patient: Patient) -> list[float]:
    """Midline to skin at TRUNK_LEVELS, in cm."""
    skin = patient.half_width + 1.6 + 3.2 * patient.fat
    neck = [8, 5.8 + patient.fat, 6.5 + 1.5 * patient.fat, 10]
    return [*neck, skin - 0.5, skin + 3.2, skin + 3.6, skin + 1.0, skin, skin - 0.3, skin - 0.6, skin + 1]


def compute_round_profile(share: np.ndarray) -> np.ndarray:
    """Thickness of a round body relative to its middle, at a squared distance relative to the squared radius."""
    return np.sqrt(np.maximum(1 - share, 0, dtype=np.float32), dtype=np.float32)


def compute_arm_thickness(x: np.ndarray, y: np.ndarray, patient: Patient, pose: Pose) -> np.ndarray:
    """Thickness of an upper arm hanging at the trunk's side, more or less abducted: float32 [size, size], cm.

    x, y: points in cm [size, size], x counted laterally on the arm's side
    patient, pose: build and view
    """
    x0, y0 = patient.half_width + 5.5 + 2 * patient.fat, 3.0
    lean = 0.04 + 0.35 * pose.arm_abduction
    axis_distance = np.abs((x - x0) - lean * (y - y0)) / np.hypot(1, lean)
    radius = 4.6 + 2.0 * patient.fat
    shoulder_distance = np.maximum(y0 - y, 0)  # a round shoulder
    squared_distance = (axis_distance**2 + shoulder_distance**2) / radius**2
    return (2 * radius * compute_round_profile(squared_distance)).astype(np.float32)


def compute_breast_thickness(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, patient: Patient, pose: Pose
) -> np.ndarray:
    """Thickness of a breast, largest low and with a sharp lower fold: [size, size], cm.

    rng: the generator of the image's torso
    x, y: points in cm [size, size], x counted laterally on the breast's side
    patient, pose: build and view
    """
    sag = rng.normal(0, 0.6) + (0 if pose.view_position == "PA" else -1.5)
    centre = (0.60 * patient.half_width + rng.normal(0, 0.5), 0.68 * patient.lung_height + sag)
    dx, dy = (x - centre[0]) / patient.breast_radius, (y - centre[1]) / patient.breast_radius
    fade = np.clip(0.75 + 0.5 * dy, 0, 1)
    return 0.55 * patient.breast_radius * fade * compute_round_profile(dx * dx + dy * dy)


def compute_coverage(outlines: list[np.ndarray], projection: Projection) -> np.ndarray:
    """Share of each pixel that the outlines (cm) cover: float32 [size, size]."""
    layer = create_layer(projection.size)
    for outline in outlines:
        fill_outline(layer, projection(outline))
    return layer.astype(np.float32) / np.float32(255)


def draw_cavity(lungs: list[Lung], patient: Patient, projection: Projection) -> np.ndarray:
    """Thickness of the two pleural cavities (cm), steep at the border as of a round body: float32 [size, size]."""
    layer = create_layer(projection.size)
    for lung in lungs:
        cv2.fillPoly(layer, [to_fixed_point(projection(lung.cavity))], 255, cv2.LINE_8, SUBPIXEL)
    border_distance = cv2.distanceTransform(layer, cv2.DIST_L2, 3) / np.float32(LUNG_EDGE_CM * projection.scale)
    inside, edge_share = layer > 0, 1 - np.minimum(border_distance, 1)
    share = 0.15 * inside + 0.85 * compute_round_profile(edge_share**2) * inside
    return blur_layer(share.astype(np.float32), 0.8) * np.float32(patient.depth * 0.66 - 1.0 * patient.fat)


def draw_recesses(patient: Patient, pose: Pose) -> np.ndarray:
    """Air of the lung that hides behind heart and domes, faint and blurred (cm): float32 [size, size]."""
    projection, lung_size = pose.projection, (patient.half_width, patient.lung_height * pose.inspiration)
    layer = create_layer(projection.size)
    fill_outline(layer, projection(smooth_outline(RECESSES * lung_size, 6)))
    return blur_to_float(layer, 1.3 * projection.scale) * np.float32(0.17 * patient.depth / 255)


def draw_airways(lungs: list[Lung], patient: Patient, pose: Pose, shift: float) -> np.ndarray:
    """Air in the trachea and main bronchi (cm): float32 [size, size].

    lungs: the right lung and the left one, whose hila the bronchi lead to
    patient, pose: build and view
    shift: of the mediastinum, cm to the image's right
    """
    projection = pose.projection
    layer, scale = create_layer(projection.size), projection.scale
    carina = np.array([0.3 + shift, 0.27 * patient.lung_height * pose.inspiration])
    trachea = smooth_path([[0, -12], [0, -3], [shift * 0.4, 2], carina])
    stroke_paths(layer, [projection(trachea)], TRACHEA_CM * scale, 230)
    for lung in lungs:
        bronchus = smooth_path([carina, (carina + lung.hilum) / 2, np.add(lung.hilum, (0.3 * lung.side, -0.4))])
        stroke_paths(layer, [projection(bronchus)], 1.1 * scale, 150)
    return blur_to_float(layer, 0.22 * scale) * (2.6 / 255)


def draw_bowel(rng: np.random.Generator, patient: Patient, pose: Pose) -> np.ndarray:
    """Air of the gastric bubble, at times, and of the bowel (cm): float32 [size, size]."""
    projection, lung_base = pose.projection, patient.lung_height * pose.inspiration
    layer, circle = create_layer(projection.size), sample_unit_circle(14)
    if rng.random() < 0.55:
        outline = sample_gastric_bubble(rng, lung_base, is_upright=pose.view_position == "PA")
        fill_outline(layer, projection(smooth_outline(outline, 5)), rng.integers(120, 230))
    for _ in range(rng.integers(0, 5)):
        centre = np.array([rng.uniform(-9, 11), lung_base + rng.uniform(3.5, 9)])
        outline = centre + rng.uniform(0.7, 2.2) * rng.normal(1, 0.12, (14, 1)) * circle
        fill_outline(layer, projection(smooth_outline(outline, 5)), rng.integers(60, 200))
    return blur_to_float(layer, 0.12 * projection.scale) * (5.0 / 255)


def sample_gastric_bubble(rng: np.random.Generator, lung_base: float, is_upright: bool) -> np.ndarray:
    """Outline [14, 2] (cm) of the air in the stomach; upright it lies above a level of fluid."""
    x, y = sample_unit_circle(14).T
    centre = np.array([rng.uniform(4.5, 8.5), lung_base - rng.uniform(-1.8, 1.0)])
    radii = rng.uniform((1.8, 0.9), (4.2, 1.8))
    outline = centre + radii * np.stack([x, np.minimum(y, 0.2) if is_upright else y], -1)
    return outline + rng.normal(0, 0.12, outline.shape)


def sample_texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Fine lung markings, relative: float32 [size, size], mean 0, deviation about 1."""
    fine, coarse = rng.standard_normal((256, 256), np.float32), rng.standard_normal((48, 48), np.float32)
    texture = cv2.resize(fine, (size, size), interpolation=cv2.INTER_CUBIC) * 0.9
    return texture + cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC) * 0.7


def draw_disease(rng: np.random.Generator, lungs: list[Lung], patient: Patient, pose: Pose, rate: float) -> np.ndarray:
    """Consolidations and effusions as extra tissue in cm, drawn whatever the label: float32 [size, size].

    rng: the generator of the image's disease
    lungs: the right lung and the left one
    patient, pose: build and view
    rate: chance of consolidations in each lung, 0..1; half of it that of an effusion
    """
    x, y = pose.with_size(64).projection.compute_patient_grid()
    extra_tissue = np.zeros_like(x)
    for lung in lungs:
        for _ in range(rng.poisson(1.5) if rng.random() < rate else 0):
            centre = lung.map_disc_points(rng.normal(0, 0.38, 2))
            sx, sy = rng.uniform(1.2, 4.0, 2)
            extra_tissue += rng.uniform(0.4, 2.4) * np.exp(-(((x - centre[0]) / sx) ** 2) - ((y - centre[1]) / sy) ** 2)
        if rng.random() < 0.5 * rate:
            fluid_level = patient.lung_height * pose.inspiration * (1 - rng.uniform(0.03, 0.22))
            meniscus = fluid_level - 1.6 * np.abs(x - lung.hilum[0]) / patient.half_width
            extra_tissue += 4.5 * np.clip((y - meniscus) / 3, 0, 1) * (x * lung.side > 0)
    return upsample_map(extra_tissue.astype(np.float32), pose.projection.size)
