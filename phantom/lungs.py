"""Lung outlines, and the map from a unit disc onto a lung, expanded or collapsed.

The outlines and their spreads are chosen by eye.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from phantom.anatomy import Patient, Pose
from phantom.geometry import smooth_outline

# Lateral wall, in shares of (half_width, height), from the apex down to the costophrenic angle.
LATERAL_WALL = np.array([
    [0.38, 0.0], [0.52, 0.025], [0.66, 0.09], [0.79, 0.20], [0.885, 0.36], [0.95, 0.55], [0.99, 0.76], [0.99, 0.92],
    [0.975, 1.0],
])  # fmt: skip
# From the cardiophrenic angle up to the apex, in the same shares.
RIGHT_MEDIAL_BORDER = np.array([
    [0.25, 0.93], [0.31, 0.84], [0.335, 0.74], [0.30, 0.62], [0.22, 0.50], [0.185, 0.38], [0.165, 0.25], [0.15, 0.12],
    [0.25, 0.03],
])  # fmt: skip
POINTS_PER_CORNER = 12


class TensionEffects(NamedTuple):
    """What a tension pneumothorax moves."""

    shift: float = 0.0  # of the mediastinum, cm to the image's right
    dome_flattening: tuple[float, float] = (0.0, 0.0)  # how far each dome of the diaphragm is pressed down, 0..1


@dataclass(frozen=True)
class Lung:
    """One lung: side (-1 the patient's right, on the image's left; +1 left), hilum [2] and outlines [n, 2] in cm."""

    side: int
    hilum: np.ndarray
    cavity: np.ndarray  # the pleural cavity, which a healthy lung fills
    mobility: np.ndarray  # [n] 0..1: how freely each point leaves the wall; hilum and ligament hold
    surface: np.ndarray  # the visceral pleura: equal to the cavity unless there is a pneumothorax

    @property
    def lateral_offsets(self) -> np.ndarray:
        """Offsets from the hilum with x counted laterally: [n, 2] cm."""
        return (self.cavity - self.hilum) * (self.side, 1)

    def map_disc_points(self, disc: np.ndarray) -> np.ndarray:
        """Points of the unit disc [..., 2] (x lateral, y down) on the lung as it lies: cm."""
        edge_offsets = (self.surface - self.hilum) * (self.side, 1)
        angle = np.arctan2(edge_offsets[:, 1], edge_offsets[:, 0])
        order = np.argsort(angle)
        edge_distance = np.interp(
            np.arctan2(disc[..., 1], disc[..., 0]), angle[order], np.hypot(*edge_offsets.T)[order], period=2 * np.pi
        )
        return self.hilum + disc * edge_distance[..., None] * (self.side, 1)

    def retract_surface(self, share: np.ndarray) -> "Lung":
        """The lung drawn towards its hilum by a share [n] of each outline point's distance."""
        return replace(self, surface=self.hilum + (self.cavity - self.hilum) * (1 - share[:, None]))


def compute_wall_distance(patient: Patient, pose: Pose, y) -> np.ndarray:
    """The inner chest wall's distance from the midline (cm) at heights y (cm)."""
    height = patient.lung_height * pose.inspiration
    return patient.half_width * np.interp(np.asarray(y) / height, LATERAL_WALL[:, 1], LATERAL_WALL[:, 0], right=0.97)


def build_left_medial_border(patient: Patient, pose: Pose) -> np.ndarray:
    """From the cardiophrenic angle along the heart up to the aortic knob and the apex: [12, 2] in shares."""
    heart_apex = min(patient.heart_extent * pose.heart_magnification, 0.78)
    knob = patient.aortic_knob_extent * pose.heart_magnification
    return np.array([
        [heart_apex * 0.95, 0.93], [heart_apex, 0.86], [heart_apex * 0.94, 0.77], [heart_apex * 0.76, 0.65],
        [heart_apex * 0.42 + 0.12, 0.54], [0.27, 0.46], [0.245, 0.40],
        [knob, 0.335], [knob - 0.015, 0.27], [0.19, 0.20], [0.16, 0.11], [0.25, 0.03],
    ])  # fmt: skip


def sample_lungs(rng: np.random.Generator, patient: Patient, pose: Pose, tension: TensionEffects) -> list[Lung]:
    """The patient's right lung and the left one, both expanded.

    rng: the generator of the image's lungs
    patient, pose: build and view; they set the size and the heart's border
    tension: how far a tension pneumothorax has moved mediastinum and domes
    """
    dome_height = rng.uniform(0.10, 0.19) * (1.15 - 0.4 * (pose.inspiration - 0.8))
    lung_size = np.array([patient.half_width, patient.lung_height * pose.inspiration])
    borders = {-1: RIGHT_MEDIAL_BORDER, 1: build_left_medial_border(patient, pose)}
    lungs = []
    for (side, border), flattening in zip(borders.items(), tension.dome_flattening, strict=True):
        higher = 0.035 if side < 0 else 0.0  # the liver lifts the right dome
        dome_rise = (dome_height + higher + rng.normal(0, 0.01)) * (1 - flattening)
        wall = LATERAL_WALL + np.array([1.0, 0.4]) * rng.normal(0, 0.008, LATERAL_WALL.shape)
        diaphragm, border = build_diaphragm(border[0, 0], dome_rise), cut_medial_border(border, dome_rise)
        corners = np.concatenate([wall, wall[-1:], diaphragm, border]) * lung_size * (side, 1)
        corners[len(wall) + 3 : -1, 0] += tension.shift
        hilum_share = np.array([0.36, 0.45] if side < 0 else [0.34, 0.425])
        outline = smooth_outline(corners, POINTS_PER_CORNER)
        hilum = hilum_share * lung_size * (side, 1) + (tension.shift, 0)
        lungs.append(Lung(side, hilum, outline, compute_mobility(len(border)), outline))
    return lungs


def build_diaphragm(medial_x: float, dome_rise: float) -> np.ndarray:
    """From the costophrenic angle to the cardiophrenic angle at `medial_x`: corners [4, 2] in shares."""
    breadth = 0.93 - medial_x
    return np.array([
        [0.93, 0.985 - 0.25 * dome_rise], [0.86, 1 - 0.62 * dome_rise],
        [medial_x + 0.55 * breadth, 1 - dome_rise], [medial_x + 0.22 * breadth, 1 - dome_rise],
    ])  # fmt: skip


def cut_medial_border(border: np.ndarray, dome_rise: float) -> np.ndarray:
    """A medial border [n, 2] that begins on the dome: corners below it are dropped."""
    border = border.copy()
    border[0, 1] = 1 - 0.94 * dome_rise
    return border[np.r_[True, border[1:, 1] < border[0, 1] - 0.03]]


def compute_mobility(border_count: int) -> np.ndarray:
    """How freely each point of an outline leaves the wall, 0..1; `border_count`: corners of its medial border."""
    wall_and_diaphragm = np.r_[0.5, np.ones(len(LATERAL_WALL)), 1, 1, 0.9, 0.4]
    corner_mobility = np.r_[wall_and_diaphragm, np.zeros(border_count - 1), 0.2]
    count = len(corner_mobility)
    positions = np.arange(count * POINTS_PER_CORNER) / POINTS_PER_CORNER
    return np.interp(positions, np.arange(count + 1), np.r_[corner_mobility, 0.5])
