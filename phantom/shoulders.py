"""Clavicles, scapulae and humeri, as attenuation of bone over soft tissue.

Lengths (cm), shades (0..255) and attenuations are chosen by eye.
"""

import numpy as np

from phantom.anatomy import Patient, Pose
from phantom.bones import BoneLayers, LongBone, draw_long_bone
from phantom.geometry import (
    blur_to_float,
    create_layer,
    fill_outline,
    sample_unit_circle,
    smooth_outline,
    smooth_path,
    stroke_paths,
)

SCAPULA = np.array([  # cm from its medial edge
    [0.3, 1.2], [2.6, 0.6], [4.6, 2.4], [4.0, 5.5], [2.2, 10.2], [1.2, 12.4], [0.5, 10.5], [-0.2, 6.0],
])  # fmt: skip


def draw_shoulders(rng: np.random.Generator, patient: Patient, pose: Pose) -> np.ndarray:
    """Extra attenuation of clavicles, scapulae and humeri: float32 [size, size]."""
    projection = pose.projection
    cortex = create_layer(projection.size)
    bones, scapulae = (BoneLayers(create_layer(projection.size), cortex, projection) for _ in range(2))
    lift = rng.normal(0, 0.7) + (-1.0 if pose.view_position == "AP" else 0.6)
    for side in (-1, 1):
        side_lift = lift + rng.normal(0, 0.4)
        draw_clavicle(bones, patient.half_width, side, side_lift)
        medial_edge = patient.half_width - 2.6 * pose.scapula_overlap
        draw_scapula(scapulae, sample_scapula(rng, medial_edge, side_lift) * (side, 1))
        humeral_head = np.array([patient.half_width + 4.3, 2.0 + side_lift])
        draw_humerus(bones, humeral_head, side, pose.arm_abduction)
    blur = 0.05 * projection.scale
    attenuation = blur_to_float(bones.body, blur) * 0.55 + blur_to_float(scapulae.body, blur) * 0.40
    return (attenuation + blur_to_float(cortex, blur) * 0.34) * np.float32(patient.bone_density / 255)


def draw_clavicle(layers: BoneLayers, half_width: float, side: int, lift: float) -> None:
    """Draw one clavicle.

    layers: what is drawn on
    half_width: of the rib cage in cm
    side: -1 the patient's right, 1 left
    lift: how much lower the shoulder lies, cm
    """
    corners = [[1.9, 3.2 + 0.4 * lift], [4.6, 2.3 + lift], [8, 0.9 + lift], [11.2, -0.1 + lift],
               [half_width + 2.4, -0.2 + lift]]  # fmt: skip
    path = smooth_path(corners)
    widths = np.interp(np.linspace(0, 1, len(path)), [0, 0.15, 0.6, 1], [2.0, 1.35, 1.15, 1.5])
    draw_long_bone(layers, LongBone(path * (side, 1), widths, -6))


def sample_scapula(rng: np.random.Generator, medial_edge: float, lift: float) -> np.ndarray:
    """The corners of a left scapula [8, 2] in cm, from the x of its medial edge and the y of the shoulder."""
    return np.add(SCAPULA, (medial_edge, 0)) + rng.normal(0, 0.2, (8, 2)) + np.array([0, lift])


def draw_scapula(layers: BoneLayers, corners: np.ndarray) -> None:
    """Draw a thin blade whose medial edge may fall on the lung and look like a pleural line."""
    outline, scale = smooth_outline(corners, 6), layers.projection.scale
    fill_outline(layers.body, layers.projection(outline, 8), 130)
    lateral_edge, medial_edge = outline[12:34], np.concatenate([outline[34:], outline[:2]])
    stroke_paths(layers.cortex, [layers.projection(lateral_edge, 8)], 0.35 * scale, 220)
    stroke_paths(layers.cortex, [layers.projection(medial_edge, 8)], 0.14 * scale, 150)


def draw_humerus(layers: BoneLayers, head: np.ndarray, side: int, abduction: float) -> None:
    """Draw the head and the shaft of one humerus.

    layers: what is drawn on
    head: centre of the humeral head of a left arm, [2] in cm
    side: -1 the patient's right, 1 left
    abduction: of the arm, 0..1
    """
    fill_outline(layers.body, layers.projection((head + 2.2 * sample_unit_circle(24)) * (side, 1)), 160)
    shaft = smooth_path(head + np.array([[0.5, 0.8], [1.2 + 3 * abduction, 9], [1.5 + 5 * abduction, 22]]))
    draw_long_bone(layers, LongBone(shaft * (side, 1), 2.2, 0, 190))
