"""Thickness of what is not bone: torso, arms, breasts, the air of lungs, airways and bowel (cm along the beam).

Lengths, angles, rates and shades without a source are chosen by eye.
"""

import cv2
import numpy as np

from phantom.anatomy import Patient, Pose
from phantom.geometry import (
    Projection,
    blur_layer,
    blur_to_float,
    create_layer,
    fill_outline,
    smooth_outline,
    smooth_path,
    stroke_paths,
    to_fixed_point,
    upsample_map,
)
from phantom.lungs import Lung

LUNG_EDGE_CM = 6.0  # from the lung's border to where it is thickest


def draw_torso(rng: np.random.Generator, patient: Patient, pose: Pose, projection: Projection) -> np.ndarray:
    """Trunk, neck, arms and breasts: float32 [size, size]."""
    x, y = projection.compute_patient_grid()
    skin_half_width = patient.half_width + 1.6 + 3.2 * patient.fat
    levels = [-14, -7, -5, -3.4, -2.0, 0.3, 5, 9, 14, 22, 32, 45]
    widths = [
        8,
        5.8 + patient.fat,
        6.5 + 1.5 * patient.fat,
        10,
        skin_half_width - 0.5,
        skin_half_width + 3.2,
        skin_half_width + 3.6,
        skin_half_width + 1.0,
        skin_half_width,
        skin_half_width - 0.3,
        skin_half_width - 0.6,
        skin_half_width + 1,
    ]
    depths = np.array([0.75, 0.58, 0.6, 0.66, 0.74, 0.82, 0.90, 0.96, 1, 1, 1.05, 1.1]) * patient.depth
    height = np.linspace(y.min(), y.max(), 256)
    half_width, depth = (np.interp(height, levels, values).astype(np.float32) for values in (widths, depths))
    height_index = ((y - height[0]) * (255 / (height[-1] - height[0]))).astype(np.float32)
    half_width = cv2.remap(half_width[None], height_index, np.zeros_like(height_index), cv2.INTER_LINEAR)
    depth = cv2.remap(depth[None], height_index, np.zeros_like(height_index), cv2.INTER_LINEAR)
    torso = depth * compute_round_profile((np.abs(x) / half_width) ** 2.6)
    for side in (-1, 1):
        np.maximum(torso, compute_arm_thickness(x, y, side, patient, pose), out=torso)
        if patient.breast_radius:
            torso += compute_breast_thickness(rng, x, y, side, patient, pose)
    return torso


def compute_round_profile(share: np.ndarray) -> np.ndarray:
    """The thickness of a round body, as a share, where `share` of the squared radius is passed."""
    return np.sqrt(np.maximum(1 - share, 0, dtype=np.float32), dtype=np.float32)


def compute_arm_thickness(x, y, side: int, patient: Patient, pose: Pose) -> np.ndarray:
    """An upper arm hanging at the trunk's side, more or less abducted."""
    x0, y0 = patient.half_width + 5.5 + 2 * patient.fat, 3.0
    lean = 0.04 + 0.35 * pose.arm_abduction
    axis_distance = np.abs((x * side - x0) - lean * (y - y0)) / np.hypot(1, lean)
    radius = 4.6 + 2.0 * patient.fat
    shoulder_distance = np.maximum(y0 - y, 0)  # a round shoulder
    return (2 * radius * compute_round_profile((axis_distance**2 + shoulder_distance**2) / radius**2)).astype(
        np.float32
    )


def compute_breast_thickness(rng, x, y, side: int, patient: Patient, pose: Pose) -> np.ndarray:
    """A breast: thickest low, with a sharp lower fold."""
    sag = rng.normal(0, 0.6) + (0 if pose.view_position == "PA" else -1.5)
    centre = (0.60 * patient.half_width + rng.normal(0, 0.5), 0.68 * patient.lung_height + sag)
    dx, dy = (x * side - centre[0]) / patient.breast_radius, (y - centre[1]) / patient.breast_radius
    fade = np.clip(0.75 + 0.5 * dy, 0, 1)
    return 0.55 * patient.breast_radius * fade * compute_round_profile(dx * dx + dy * dy)


def compute_coverage(outlines: list[np.ndarray], projection: Projection) -> np.ndarray:
    """Share of each pixel that the outlines (cm) cover: float32 [size, size]."""
    layer = create_layer(projection.size)
    for outline in outlines:
        fill_outline(layer, projection(outline))
    return layer.astype(np.float32) / np.float32(255)


def draw_cavity(lungs: list[Lung], patient: Patient, projection: Projection) -> np.ndarray:
    """Thickness of the two pleural cavities: float32 [size, size]; steep at the border, as a round body is."""
    layer = create_layer(projection.size)
    for lung in lungs:
        cv2.fillPoly(layer, [to_fixed_point(projection(lung.cavity))], 255, cv2.LINE_8, 4)
    border_distance = np.minimum(
        cv2.distanceTransform(layer, cv2.DIST_L2, 3) / np.float32(LUNG_EDGE_CM * projection.scale), 1
    )
    thickness = blur_layer(
        (0.15 * (layer > 0) + 0.85 * compute_round_profile((1 - border_distance) ** 2) * (layer > 0)).astype(
            np.float32
        ),
        0.8,
    )
    return thickness * np.float32(patient.depth * 0.66 - 1.0 * patient.fat)


def draw_recesses(lungs: list[Lung], patient: Patient, pose: Pose, projection: Projection) -> np.ndarray:
    """Lung hidden behind heart and domes: a faint blurred air thickness, float32 [size, size]."""
    height, width = patient.lung_height * pose.inspiration, patient.half_width
    recess_outline = np.array(
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
    layer = create_layer(projection.size)
    fill_outline(layer, projection(smooth_outline(recess_outline * (width, height), 6)))
    return blur_to_float(layer, 1.3 * projection.scale) * np.float32(0.17 * patient.depth / 255)


def draw_airways(lungs: list[Lung], patient: Patient, pose: Pose, projection: Projection, shift: float) -> np.ndarray:
    """Air in the trachea and main bronchi: float32 [size, size]."""
    layer = create_layer(projection.size)
    carina = np.array([0.3 + shift, 0.27 * patient.lung_height * pose.inspiration])
    stroke_paths(
        layer, [projection(smooth_path([[0, -12], [0, -3], [shift * 0.4, 2], carina]))], 1.7 * projection.scale, 230
    )
    for lung in lungs:
        stroke_paths(
            layer,
            [projection(smooth_path([carina, (carina + lung.hilum) / 2, np.add(lung.hilum, (0.3 * lung.side, -0.4))]))],
            1.1 * projection.scale,
            150,
        )
    return blur_to_float(layer, 0.22 * projection.scale) * (2.6 / 255)


def draw_bowel(rng: np.random.Generator, patient: Patient, pose: Pose, projection: Projection) -> np.ndarray:
    """The gastric bubble, at times, and bowel gas: float32 [size, size]."""
    layer = create_layer(projection.size)
    lung_base = patient.lung_height * pose.inspiration
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    if rng.random() < 0.55:
        centre, radii = (
            np.array([rng.uniform(4.5, 8.5), lung_base - rng.uniform(-1.8, 1.0)]),
            rng.uniform((1.8, 0.9), (4.2, 1.8)),
        )
        outline = centre + radii * np.stack(
            [np.cos(angles), np.where(pose.view_position == "PA", np.minimum(np.sin(angles), 0.2), np.sin(angles))], -1
        )
        fill_outline(
            layer, projection(smooth_outline(outline + rng.normal(0, 0.12, outline.shape), 5)), rng.integers(120, 230)
        )
    for _ in range(rng.integers(0, 5)):
        centre = np.array([rng.uniform(-9, 11), lung_base + rng.uniform(3.5, 9)])
        outline = centre + rng.uniform(0.7, 2.2) * rng.normal(1, 0.12, (14, 1)) * np.stack(
            [np.cos(angles), np.sin(angles)], -1
        )
        fill_outline(layer, projection(smooth_outline(outline, 5)), rng.integers(60, 200))
    return blur_to_float(layer, 0.12 * projection.scale) * (5.0 / 255)


def sample_texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Fine lung markings as relative density: float32 [size, size], mean 0, deviation about 1."""
    fine, coarse = rng.standard_normal((256, 256), np.float32), rng.standard_normal((48, 48), np.float32)
    texture = cv2.resize(fine, (size, size), interpolation=cv2.INTER_CUBIC) * 0.9
    return texture + cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC) * 0.7


def draw_disease(
    rng: np.random.Generator, lungs: list[Lung], patient: Patient, pose: Pose, projection: Projection, rate: float
) -> np.ndarray:
    """Consolidations and effusions, whatever the label: extra tissue in cm, float32 [size, size]."""
    coarse_projection = projection.with_size(64)
    x, y = coarse_projection.compute_patient_grid()
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
    return upsample_map(extra_tissue.astype(np.float32), projection.size)
