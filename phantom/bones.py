"""Rib cage, clavicles, scapulae, humeri and spine, as attenuation of bone over soft tissue.

Lengths, angles, rates and shades without a source are chosen by eye.
"""

import numpy as np

from phantom.anatomy import Patient, Pose
from phantom.geometry import (
    Projection,
    blur_to_float,
    compute_ribbon_edges,
    create_layer,
    fill_outline,
    sample_unit_circle,
    smooth_outline,
    smooth_path,
    stroke_paths,
)
from phantom.lungs import compute_wall_distance

CORTEX_CM = 0.13
SCAPULA = np.array([  # scapula, cm from its medial edge
    [0.3, 1.2], [2.6, 0.6], [4.6, 2.4], [4.0, 5.5], [2.2, 10.2], [1.2, 12.4], [0.5, 10.5], [-0.2, 6.0],
])  # fmt: skip
VERTEBRA = np.array([  # a waisted block, in shares of its half width and half height
    [-1, -1], [-0.86, 0], [-1, 1], [0, 0.9], [1, 1], [0.86, 0], [1, -1], [0, -0.9],
])  # fmt: skip


def draw_long_bone(
    body: np.ndarray,
    cortex: np.ndarray,
    projection: Projection,
    path,
    width,
    depth: float,
    gray: int = 200,
    rim_gray: int = 210,
) -> None:
    """A long bone in projection: a filled band with a denser rim."""
    left_edge, right_edge = compute_ribbon_edges(np.asarray(path), width)
    left_edge, right_edge = projection(left_edge, depth), projection(right_edge, depth)
    fill_outline(body, np.concatenate([left_edge, right_edge[::-1]]), gray)
    stroke_paths(cortex, [left_edge, right_edge], CORTEX_CM * projection.scale, int(rim_gray))


def trace_rib(patient: Patient, pose: Pose, top: float, drop: float, angles: np.ndarray) -> np.ndarray:
    """Part of one rib's arc: a tilted half ellipse, angle 0 at the spine, pi at the sternum: [n, 2] cm."""
    y = top + drop * (1 - np.cos(angles)) / 2
    half_width = compute_wall_distance(patient, pose, max(top + drop / 2, 0.3)) + 0.35
    return np.stack([half_width * np.sin(angles) ** 0.85, y - 0.9 * np.sin(2 * np.minimum(angles, np.pi / 2))], -1)


def draw_ribs(rng: np.random.Generator, patient: Patient, pose: Pose, projection: Projection) -> np.ndarray:
    """Extra attenuation of the rib cage: float32 [size, size]. Back and front arcs cross, and add up."""
    back_layer, front_layer, cortex_layer = (
        create_layer(projection.size),
        create_layer(projection.size),
        create_layer(projection.size),
    )
    pitch = patient.lung_height * pose.inspiration / 8.8
    for k in range(11):
        top = -1.9 + pitch * k + rng.normal(0, 0.10)
        drop = patient.rib_drop * (0.55 + 0.055 * min(k, 8)) * (0.8 + 0.2 * pose.inspiration)
        width = (1.15 + 0.03 * min(k, 6)) * rng.uniform(0.92, 1.08) * (0.85 if k == 10 else 1)
        gray = 205 if k < 8 else 110  # behind the domes scatter hides them
        for side in (-1, 1):
            path = trace_rib(patient, pose, top, drop, np.linspace(0.07, 1.62, 26)) * (side, 1)
            draw_long_bone(
                back_layer, cortex_layer, projection, path, np.linspace(width * 0.8, width, 26), 7, gray, 0.63 * gray
            )
            if k < 8:
                path = trace_rib(patient, pose, top, drop, np.linspace(1.5, 2.62, 20)) * (side, 1)
                draw_long_bone(
                    front_layer, cortex_layer, projection, path, np.linspace(width * 0.9, width * 1.25, 20), -7, 150, 75
                )
    blur = 0.045 * projection.scale
    attenuation = blur_to_float(back_layer, blur) * 0.25 + blur_to_float(front_layer, 2 * blur) * 0.23
    return (attenuation + blur_to_float(cortex_layer, blur) * 0.24) * np.float32(patient.bone_density / 255)


def draw_shoulders(rng: np.random.Generator, patient: Patient, pose: Pose, projection: Projection) -> np.ndarray:
    """Clavicles, scapulae and humeral heads: float32 [size, size]."""
    bone_layer, scapula_layer, cortex_layer = (
        create_layer(projection.size),
        create_layer(projection.size),
        create_layer(projection.size),
    )
    lift = rng.normal(0, 0.7) + (-1.0 if pose.view_position == "AP" else 0.6)
    half_width = patient.half_width
    for side in (-1, 1):
        side_lift = lift + rng.normal(0, 0.4)
        path = smooth_path(
            [
                [1.9, 3.2 + 0.4 * side_lift],
                [4.6, 2.3 + side_lift],
                [8, 0.9 + side_lift],
                [11.2, -0.1 + side_lift],
                [half_width + 2.4, -0.2 + side_lift],
            ]
        )
        draw_long_bone(
            bone_layer,
            cortex_layer,
            projection,
            path * (side, 1),
            np.interp(np.linspace(0, 1, len(path)), [0, 0.15, 0.6, 1], [2.0, 1.35, 1.15, 1.5]),
            -6,
        )
        draw_scapula(
            rng, scapula_layer, cortex_layer, projection, side, half_width - 2.6 * pose.scapula_overlap, side_lift
        )
        humeral_head = np.array([half_width + 4.3, 2.0 + side_lift])
        fill_outline(bone_layer, projection((humeral_head + 2.2 * sample_unit_circle(24)) * (side, 1)), 160)
        draw_long_bone(
            bone_layer,
            cortex_layer,
            projection,
            smooth_path(
                humeral_head
                + np.array([[0.5, 0.8], [1.2 + 3 * pose.arm_abduction, 9], [1.5 + 5 * pose.arm_abduction, 22]])
            )
            * (side, 1),
            2.2,
            0,
            190,
        )
    blur = 0.05 * projection.scale
    attenuation = blur_to_float(bone_layer, blur) * 0.55 + blur_to_float(scapula_layer, blur) * 0.40
    return (attenuation + blur_to_float(cortex_layer, blur) * 0.34) * np.float32(patient.bone_density / 255)


def draw_scapula(rng, scapula_layer, cortex_layer, projection, side, medial_edge: float, lift: float) -> None:
    """One scapula: a thin blade whose medial edge may fall on the lung and look like a pleural line."""
    corners = np.add(SCAPULA, (medial_edge, 0)) + rng.normal(0, 0.2, (8, 2)) + np.array([0, lift])
    outline = smooth_outline(corners * (side, 1), 6)
    fill_outline(scapula_layer, projection(outline, 8), 130)
    stroke_paths(cortex_layer, [projection(np.concatenate([outline[12:34]]), 8)], 0.35 * projection.scale, 220)
    stroke_paths(
        cortex_layer, [projection(np.concatenate([outline[34:], outline[:2]]), 8)], 0.14 * projection.scale, 150
    )


def draw_spine(rng: np.random.Generator, patient: Patient, pose: Pose, projection: Projection) -> np.ndarray:
    """Vertebral bodies with end plates, pedicles and spinous processes: float32 [size, size]."""
    body_layer, detail_layer = create_layer(projection.size), create_layer(projection.size)
    pitch = patient.lung_height / 10.4
    curvature = rng.normal(0, 0.5)
    for k in range(-5, 17):
        y = -0.5 + pitch * k * (0.8 if k < 0 else 1)
        half_width = 1.35 + 0.045 * max(k, 0) + (0 if k >= 0 else -0.1)
        x = curvature * np.sin(k / 5)
        corners = VERTEBRA * (half_width, 0.41 * pitch)
        outline = projection(np.add(smooth_outline(corners, 4), (x, y)), 6)
        fill_outline(body_layer, outline, 175)
        stroke_paths(detail_layer, [np.concatenate([outline, outline[:1]])], 0.13 * projection.scale, 150)
        for side in (-0.62, 0.62):
            pedicle = projection(np.array([x + side * half_width, y - 0.1]), 7)
            stroke_paths(
                detail_layer,
                [np.stack([pedicle, np.add(pedicle, (0.0, 0.35 * projection.scale))])],
                0.42 * projection.scale,
                140,
            )
        spinous_process = np.array([[x, y + 0.2], [x + rng.normal(0, 0.08), y + 1.0]])
        stroke_paths(detail_layer, [projection(spinous_process, 9)], 0.5 * projection.scale, 150)
    blur = 0.07 * projection.scale
    attenuation = blur_to_float(body_layer, 1.5 * blur) * 0.55 + blur_to_float(detail_layer, blur) * 0.25
    return attenuation * np.float32(patient.bone_density / 255)
