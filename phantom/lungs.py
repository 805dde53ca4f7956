"""Lung outlines, and the map from a unit disc onto a lung, expanded or collapsed."""

from dataclasses import dataclass, replace

import numpy as np

from phantom.anatomy import Patient, Pose
from phantom.geometry import smooth_outline

# Lateral wall, in shares of (half_width, height), from the apex down to the costophrenic angle.
WALL = np.array(
    [
        [0.38, 0.0],
        [0.52, 0.025],
        [0.66, 0.09],
        [0.79, 0.20],
        [0.885, 0.36],
        [0.95, 0.55],
        [0.99, 0.76],
        [0.99, 0.92],
        [0.975, 1.0],
    ]
)
RIGHT_MEDIAL = np.array(
    [
        [0.25, 0.93],
        [0.31, 0.84],
        [0.335, 0.74],
        [0.30, 0.62],
        [0.22, 0.50],
        [0.185, 0.38],
        [0.165, 0.25],
        [0.15, 0.12],
        [0.25, 0.03],
    ]
)


@dataclass(frozen=True)
class Lung:
    """One lung: side (-1 the patient's right, on the image's left; +1 left), hilum [2] and outlines [n, 2] in cm."""

    side: int
    hilum: np.ndarray
    cavity: np.ndarray  # the pleural cavity, which a healthy lung fills
    free: np.ndarray  # [n] 0..1: how freely each point leaves the wall; hilum and ligament hold
    surface: np.ndarray  # the visceral pleura: equal to the cavity unless there is a pneumothorax

    @property
    def lateral(self) -> np.ndarray:
        """Offsets from the hilum with x counted laterally: [n, 2] cm."""
        return (self.cavity - self.hilum) * (self.side, 1)

    def place(self, disc: np.ndarray) -> np.ndarray:
        """Points of the unit disc [..., 2] (x lateral, y down) on the lung as it lies: cm."""
        edge = (self.surface - self.hilum) * (self.side, 1)
        angle = np.arctan2(edge[:, 1], edge[:, 0])
        order = np.argsort(angle)
        reach = np.interp(
            np.arctan2(disc[..., 1], disc[..., 0]), angle[order], np.hypot(*edge.T)[order], period=2 * np.pi
        )
        return self.hilum + disc * reach[..., None] * (self.side, 1)

    def retract(self, share: np.ndarray) -> "Lung":
        """The lung drawn towards its hilum by a share [n] of each outline point's distance."""
        return replace(self, surface=self.hilum + (self.cavity - self.hilum) * (1 - share[:, None]))


def wall_at(patient: Patient, pose: Pose, y) -> np.ndarray:
    """The inner chest wall's distance from the midline (cm) at heights y (cm)."""
    height = patient.lung_height * pose.inspiration
    return patient.half_width * np.interp(np.asarray(y) / height, WALL[:, 1], WALL[:, 0], right=0.97)


def heart_border(patient: Patient, pose: Pose) -> np.ndarray:
    """The left mediastinal border from the cardiophrenic angle up to the aortic knob and the apex, in shares."""
    apex = min(patient.heart * pose.magnification, 0.78)
    knob = patient.knob * pose.magnification
    return np.array(
        [
            [apex * 0.95, 0.93],
            [apex, 0.86],
            [apex * 0.94, 0.77],
            [apex * 0.76, 0.65],
            [apex * 0.42 + 0.12, 0.54],
            [0.27, 0.46],
            [0.245, 0.40],
            [knob, 0.335],
            [knob - 0.015, 0.27],
            [0.19, 0.20],
            [0.16, 0.11],
            [0.25, 0.03],
        ]
    )


def draw_lungs(
    rng: np.random.Generator, patient: Patient, pose: Pose, shift: float, flatten: tuple[float, float]
) -> list[Lung]:
    """Right and left lung; shift moves the mediastinum (cm), flatten presses each dome down (0..1)."""
    dome = rng.uniform(0.10, 0.19) * (1.15 - 0.4 * (pose.inspiration - 0.8))
    size = np.array([patient.half_width, patient.lung_height * pose.inspiration])
    lungs = []
    for side, border, flat in ((-1, RIGHT_MEDIAL, flatten[0]), (1, heart_border(patient, pose), flatten[1])):
        rise = (dome + (0.035 if side < 0 else 0.0) + rng.normal(0, 0.01)) * (1 - flat)
        inner = border[0, 0]
        base = np.array(
            [
                [0.93, 0.985 - 0.25 * rise],
                [0.86, 1 - 0.62 * rise],
                [inner + 0.55 * (0.93 - inner), 1 - rise],
                [inner + 0.22 * (0.93 - inner), 1 - rise],
            ]
        )
        border = border.copy()
        border[0, 1] = 1 - 0.94 * rise
        border = border[np.r_[True, border[1:, 1] < border[0, 1] - 0.03]]
        wall = WALL + np.array([1.0, 0.4]) * rng.normal(0, 0.008, WALL.shape)
        corners = np.concatenate([wall, wall[-1:], base, border]) * size * (side, 1)
        corners[len(wall) + 3 : -1, 0] += shift
        hilum = np.array([0.36 if side < 0 else 0.34, 0.45 if side < 0 else 0.425]) * size * (side, 1) + (shift, 0)
        outline = smooth_outline(corners)
        grip = np.r_[0.5, np.ones(len(wall)), 1, 1, 0.9, 0.4, np.zeros(len(border) - 1), 0.2]
        free = np.interp(np.arange(len(outline)) / 12, np.arange(len(grip) + 1), np.r_[grip, 0.5])
        lungs.append(Lung(side, hilum, outline, free, outline))
    return lungs
