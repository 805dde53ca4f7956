"""Tubes, lines, leads and wires; drawn at rates that depend on the view, never on the label.

Lengths without a source, shades (0..255) and rates are chosen by eye. A French is a third of a millimetre: the gastric
tube has 12.6, the central line 6.6, a chest tube 15 to 24. The tip of an endotracheal tube should lie 5 +- 2 cm above
the carina; here it lies 2 to 5 cm above, so that some are too low.
"""

from collections.abc import Callable

import numpy as np

from phantom.anatomy import Patient, Pose
from phantom.geometry import (
    Projection,
    blur_to_float,
    create_layer,
    fill_outline,
    sample_unit_circle,
    smooth_outline,
    smooth_path,
    stroke_paths,
)

PACEMAKER_CASE = np.array([  # cm
    [-2, -2], [0, -2.3], [2, -2], [2.3, 0], [1.8, 2], [0, 2.4], [-1.8, 2], [-2.3, 0],
])  # fmt: skip
Device = Callable[[np.random.Generator, Patient, Pose], np.ndarray]
"""Draws one device for a patient and a pose: a layer, uint8 [size, size]."""


def draw_tube(projection: Projection, path: np.ndarray, width: float, value: int) -> np.ndarray:
    """A hollow tube, a faint body between two denser walls, or a plain line where it is thin: uint8 [size, size].

    projection: of the image
    path: the tube's axis, [n, 2] cm
    width: outer diameter in cm
    value: gray of the walls, 0..255
    """
    layer = create_layer(projection.size)
    stroke_paths(layer, [projection(path)], width * projection.scale, value)
    if width > 0.3:
        stroke_paths(layer, [projection(path)], 0.6 * width * projection.scale, value // 3)
    return layer


def draw_endotracheal_tube(rng: np.random.Generator, patient: Patient, pose: Pose) -> np.ndarray:
    tip = 0.27 * patient.lung_height * pose.inspiration - rng.uniform(2, 5)
    x = rng.normal(0, 0.25)
    path = smooth_path([[x + rng.normal(0, 1), -12], [x, -5], [x + 0.1, tip]])
    return draw_tube(pose.projection, path, 1.0, 75)


def draw_gastric_tube(rng: np.random.Generator, patient: Patient, pose: Pose) -> np.ndarray:
    lung_base = patient.lung_height * pose.inspiration
    oesophagus = [[0.3, -12], [0.2, 0], [0.6, 0.4 * lung_base], [0.9, 0.8 * lung_base]]
    stomach = [[2.6, lung_base + 1], [5.5, lung_base + rng.uniform(2, 5)]]
    return draw_tube(pose.projection, smooth_path([*oesophagus, *stomach]), 0.42, 95)


def draw_central_line(rng: np.random.Generator, patient: Patient, pose: Pose) -> np.ndarray:
    """From the neck or from below the clavicle into the superior vena cava."""
    side = rng.choice([-1, 1], p=[0.7, 0.3])
    if rng.random() < 0.5:
        start = [[side * rng.uniform(3, 6), -9], [side * 3.6, -3]]
    else:
        start = [[side * 15, -1], [side * 9, 1.5]]
    end = [[side * 2.4, 2.5], [-1.6, 5.5], [-2.3, rng.uniform(8, 12)]]
    return draw_tube(pose.projection, smooth_path([*start, *end], 40), 0.22, 130)


def draw_chest_tube(rng: np.random.Generator, patient: Patient, pose: Pose) -> np.ndarray:
    side, half_width, lung_height = rng.choice([-1, 1]), patient.half_width, patient.lung_height * pose.inspiration
    entry_height = lung_height * rng.uniform(0.55, 0.85)
    path = [
        [half_width + 7, entry_height + 4],
        [half_width + 0.3, entry_height],
        [half_width * rng.uniform(0.6, 0.9), lung_height * rng.uniform(0.35, 0.5)],
        [half_width * rng.uniform(0.25, 0.6), lung_height * rng.uniform(0.1, 0.25)],
    ]
    return draw_tube(pose.projection, smooth_path(path, 40) * (side, 1), rng.uniform(0.5, 0.8), 85)


def draw_ecg_leads(rng: np.random.Generator, patient: Patient, pose: Pose) -> np.ndarray:
    layer, projection = create_layer(pose.projection.size), pose.projection
    half_width, lung_height = patient.half_width, patient.lung_height * pose.inspiration
    for _ in range(rng.integers(2, 5)):
        electrode = np.array([rng.uniform(-1, 1) * half_width, rng.uniform(0.05, 1.05) * lung_height])
        end_x = np.sign(electrode[0]) * half_width * rng.uniform(0.4, 1.6)
        end = np.array([end_x, rng.choice([-12, lung_height + 14])])
        midpoint = (electrode + end) / 2 + rng.normal(0, 3, 2)
        stroke_paths(layer, [projection(smooth_path([electrode, midpoint, end], 30))], 0.17 * projection.scale, 120)
        fill_outline(layer, projection(electrode + rng.uniform(0.4, 0.75) * sample_unit_circle(12)), 150)
    return layer


def draw_pacemaker(rng: np.random.Generator, patient: Patient, pose: Pose) -> np.ndarray:
    """The case below a clavicle, mostly the left, and a lead to the tip of the right ventricle."""
    layer, projection = create_layer(pose.projection.size), pose.projection
    side = rng.choice([-1, 1], p=[0.2, 0.8])
    case_outline = np.add(PACEMAKER_CASE, (side * 0.72 * patient.half_width, 3.2))
    fill_outline(layer, projection(smooth_outline(case_outline, 5)), 235)
    tip = [3.5, 0.72 * patient.lung_height * pose.inspiration]
    lead = [[side * 9, 2.5], [side * 4, 1.5], [-1.7, 6], [-2.2, 12], tip]
    stroke_paths(layer, [projection(smooth_path(lead, 40))], 0.16 * projection.scale, 200)
    return layer


def draw_sternotomy_wires(rng: np.random.Generator, patient: Patient, pose: Pose) -> np.ndarray:
    layer, projection = create_layer(pose.projection.size), pose.projection
    for k in range(rng.integers(4, 7)):
        angles = np.linspace(0, 2.2 * np.pi, 14)
        centre = np.array([rng.normal(0, 0.2), 4.5 + 2.6 * k])
        wire = centre + np.stack([1.1 * np.cos(angles), 0.35 * np.sin(angles + rng.normal(0, 0.5))], -1)
        stroke_paths(layer, [projection(wire, -8)], 0.10 * projection.scale, 240)
    return layer


# How often each is seen: PA, AP.
DEVICES: tuple[tuple[Device, float, float], ...] = (
    (draw_endotracheal_tube, 0.02, 0.28),
    (draw_gastric_tube, 0.03, 0.28),
    (draw_central_line, 0.10, 0.42),
    (draw_chest_tube, 0.08, 0.16),
    (draw_ecg_leads, 0.07, 0.60),
    (draw_pacemaker, 0.05, 0.08),
    (draw_sternotomy_wires, 0.08, 0.14),
)


def draw_devices(rng: np.random.Generator, patient: Patient, pose: Pose) -> tuple[np.ndarray, set[Device]]:
    """Extra attenuation of foreign material, float32 [size, size], and which of DEVICES were drawn."""
    layer, drawn_devices = create_layer(pose.projection.size), set()
    for draw_device, pa_rate, ap_rate in DEVICES:
        if rng.random() < (ap_rate if pose.view_position == "AP" else pa_rate):
            device_layer = draw_device(rng, patient, pose)
            drawn_devices.add(draw_device)
            layer = np.maximum(layer, device_layer) + np.minimum(layer, device_layer) // 2  # half more where two cross
    return blur_to_float(layer, 0.025 * pose.projection.scale) * (1.5 / 255), drawn_devices
