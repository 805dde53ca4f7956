"""Rib cage and spine, as attenuation of bone over soft tissue.

Lengths (cm), shades (0..255) and attenuations without a source are chosen by eye.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from phantom.anatomy import Patient, Pose
from phantom.geometry import (
    Projection,
    blur_to_float,
    compute_ribbon_edges,
    create_layer,
    fill_outline,
    smooth_outline,
    stroke_paths,
)
from phantom.lungs import compute_wall_distance

CORTEX_CM = 0.13
RIB_PAIRS, FIRST_HIDDEN_PAIR = 11, 8  # the twelfth is too short to show; the last three lie behind the domes
VERTEBRA = np.array([  # a waisted block, in shares of its half width and half height
    [-1, -1], [-0.86, 0], [-1, 1], [0, 0.9], [1, 1], [0.86, 0], [1, -1], [0, -0.9],
])  # fmt: skip


class BoneLayers(NamedTuple):
    """Where bones are drawn: the bodies and their denser rims, each uint8 [size, size], and how they are projected."""

    body: np.ndarray
    cortex: np.ndarray
    projection: Projection


@dataclass(frozen=True)
class LongBone:
    """A band of bone with denser rims."""

    path: np.ndarray  # [n, 2] cm, its axis
    width: float | np.ndarray  # cm, one number or [n]
    depth: float  # cm towards the back
    gray: int = 200
    rim_gray: int = 210


@dataclass(frozen=True)
class Rib:
    """One rib: a half ellipse in the patient's frame that falls from the spine to the sternum, in cm."""

    top: float  # at the spine
    drop: float
    half_width: float  # from the midline to the rib's outermost point
    width: float  # of the bone itself

    def trace_arc(self, start: float, end: float, count: int) -> np.ndarray:
        """Part of the rib, angle 0 at the spine and pi at the sternum, as a path [count, 2] in cm.

        start, end: angles in radians
        count: points of the path
        """
        angles = np.linspace(start, end, count)
        y = self.top + self.drop * (1 - np.cos(angles)) / 2
        x = self.half_width * np.sin(angles) ** 0.85
        return np.stack([x, y - 0.9 * np.sin(2 * np.minimum(angles, np.pi / 2))], -1)


def draw_long_bone(layers: BoneLayers, bone: LongBone) -> None:
    """Draw a bone's body and the rims along its two edges."""
    projection, edges = layers.projection, compute_ribbon_edges(np.asarray(bone.path), bone.width)
    left_edge, right_edge = (projection(edge, bone.depth) for edge in edges)
    fill_outline(layers.body, np.concatenate([left_edge, right_edge[::-1]]), bone.gray)
    stroke_paths(layers.cortex, [left_edge, right_edge], CORTEX_CM * projection.scale, int(bone.rim_gray))


def sample_rib(rng: np.random.Generator, patient: Patient, pose: Pose, number: int) -> Rib:
    """One pair of ribs.

    rng: the generator of the patient's ribs
    patient, pose: build and view
    number: 0 for the first pair, counted downwards
    """
    pitch = patient.lung_height * pose.inspiration / 8.8
    top = -1.9 + pitch * number + rng.normal(0, 0.10)
    drop = patient.rib_drop * (0.55 + 0.055 * min(number, 8)) * (0.8 + 0.2 * pose.inspiration)
    half_width = compute_wall_distance(patient, pose, max(top + drop / 2, 0.3)) + 0.35
    last_factor = 0.85 if number == RIB_PAIRS - 1 else 1
    return Rib(top, drop, half_width, (1.15 + 0.03 * min(number, 6)) * rng.uniform(0.92, 1.08) * last_factor)


def draw_ribs(rng: np.random.Generator, patient: Patient, pose: Pose) -> np.ndarray:
    """Extra attenuation of the rib cage: float32 [size, size]. Back and front arcs cross, and add up."""
    projection = pose.projection
    cortex = create_layer(projection.size)
    back, front = (BoneLayers(create_layer(projection.size), cortex, projection) for _ in range(2))
    for number in range(RIB_PAIRS):
        rib = sample_rib(rng, patient, pose, number)
        gray = 205 if number < FIRST_HIDDEN_PAIR else 110  # behind the domes scatter hides them
        for side in (-1, 1):
            path = rib.trace_arc(0.07, 1.62, 26) * (side, 1)
            widths = np.linspace(rib.width * 0.8, rib.width, 26)
            draw_long_bone(back, LongBone(path, widths, 7, gray, 0.63 * gray))
            if number < FIRST_HIDDEN_PAIR:
                path = rib.trace_arc(1.5, 2.62, 20) * (side, 1)
                widths = np.linspace(rib.width * 0.9, rib.width * 1.25, 20)
                draw_long_bone(front, LongBone(path, widths, -7, 150, 75))
    blur = 0.045 * projection.scale
    attenuation = blur_to_float(back.body, blur) * 0.25 + blur_to_float(front.body, 2 * blur) * 0.23
    return (attenuation + blur_to_float(cortex, blur) * 0.24) * np.float32(patient.bone_density / 255)


def draw_spine(rng: np.random.Generator, patient: Patient, pose: Pose) -> np.ndarray:
    """Vertebral bodies with end plates, pedicles and spinous processes: float32 [size, size]."""
    projection = pose.projection
    layers = BoneLayers(create_layer(projection.size), create_layer(projection.size), projection)
    pitch = patient.lung_height / 10.4
    curvature = rng.normal(0, 0.5)
    for number in range(-5, 17):  # 0: the vertebra at the apices
        y = -0.5 + pitch * number * (0.8 if number < 0 else 1)
        half_width = 1.35 + 0.045 * max(number, 0) + (0 if number >= 0 else -0.1)
        x = curvature * np.sin(number / 5)
        draw_vertebral_body(layers, (x, y), (half_width, 0.41 * pitch))
        draw_vertebral_arch(layers, (x, y), half_width, rng.normal(0, 0.08))
    blur = 0.07 * projection.scale
    attenuation = blur_to_float(layers.body, 1.5 * blur) * 0.55 + blur_to_float(layers.cortex, blur) * 0.25
    return attenuation * np.float32(patient.bone_density / 255)


def draw_vertebral_body(layers: BoneLayers, centre: tuple, half_size: tuple) -> None:
    """Draw a vertebral body and its end plates; centre and half size as (x, y) in cm."""
    projection = layers.projection
    outline = projection(np.add(smooth_outline(VERTEBRA * half_size, 4), centre), 6)
    fill_outline(layers.body, outline, 175)
    stroke_paths(layers.cortex, [np.concatenate([outline, outline[:1]])], 0.13 * projection.scale, 150)


def draw_vertebral_arch(layers: BoneLayers, centre: tuple, half_width: float, process_offset: float) -> None:
    """Draw the two pedicles and the spinous process of a vertebra.

    layers: the denser layer is drawn on
    centre: x and y of the vertebral body in cm
    half_width: of the vertebral body in cm
    process_offset: how far the tip of the spinous process lies to the right, cm
    """
    (x, y), projection = centre, layers.projection
    for side in (-0.62, 0.62):
        pedicle = projection(np.array([x + side * half_width, y - 0.1]), 7)
        path = np.stack([pedicle, np.add(pedicle, (0.0, 0.35 * projection.scale))])
        stroke_paths(layers.cortex, [path], 0.42 * projection.scale, 140)
    spinous_process = np.array([[x, y + 0.2], [x + process_offset, y + 1.0]])
    stroke_paths(layers.cortex, [projection(spinous_process, 9)], 0.5 * projection.scale, 150)
