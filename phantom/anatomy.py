"""Who is imaged and how: one patient's build, shared by all images, and one view's pose and technique.

Lengths, shares and their spreads are chosen by eye, so that the phantoms look like adult chests. One check: with the
right border of the heart at about .34 (`lungs.py`), a mean left border of .5 makes a cardiothoracic ratio of .42;
radiologists call a heart large from .5 on.
"""

from dataclasses import dataclass, replace

import numpy as np

from phantom.geometry import Projection


@dataclass(frozen=True)
class Patient:
    """A build: lengths in cm, at full inspiration."""

    age: int
    sex: str
    half_width: float  # midline to the inner chest wall
    lung_height: float  # apex to costophrenic angle
    depth: float  # front to back, skin to skin
    fat: float  # 0 lean .. 1 obese
    heart_extent: float  # midline to the left heart border, share of half_width
    aortic_knob_extent: float  # midline to the aortic knob, share of half_width
    breast_radius: float  # 0: no breast is seen
    rib_drop: float  # how far a rib falls from back to front
    bone_density: float  # relative to the average, 1


@dataclass(frozen=True)
class Pose:
    """One view of a patient."""

    view_position: str
    inspiration: float  # share of full lung height
    heart_magnification: float  # larger in AP
    scapula_overlap: float  # how far the scapulae lie over the lungs, 0..1
    arm_abduction: float  # 0 hanging .. 1 raised sideways
    projection: Projection

    def with_size(self, size: int) -> "Pose":
        """The same view on a pixel grid of another size."""
        return replace(self, projection=self.projection.with_size(size))


def sample_patient(rng: np.random.Generator) -> Patient:
    """One patient's build, from the generator that all images of the patient share."""
    is_female = rng.random() < 0.48
    fat = float(np.clip(rng.beta(2, 2.6), 0.02, 0.98))
    sex_scale = 0.92 if is_female else 1.0
    age = int(np.clip(rng.normal(50, 17), 18, 90))
    return Patient(
        age=age,
        sex="F" if is_female else "M",
        fat=fat,
        half_width=sex_scale * rng.normal(13.2, 0.75) + 0.6 * fat,
        lung_height=sex_scale * rng.normal(27.2, 2.0) - 1.2 * fat,
        depth=sex_scale * rng.normal(19.5, 1.2) + 8 * fat,
        heart_extent=float(np.clip(rng.normal(0.5, 0.07), 0.38, 0.7)),
        aortic_knob_extent=rng.uniform(0.20, 0.265) + 0.0008 * (age - 50),
        breast_radius=rng.uniform(4.5, 7.5) + 2 * fat if is_female else 0.0,
        rib_drop=rng.normal(9.0, 1.2),
        bone_density=rng.normal(1.0, 0.12) - 0.003 * (age - 50),
    )


def sample_pose(rng: np.random.Generator, patient: Patient, size: int, ap_share: float) -> Pose:
    """One view: position on the detector, inspiration and technique.

    rng: the generator of the image's pose
    patient: the build, whose chest sets the size of the field
    size: side of the image in pixels
    ap_share: chance of a bedside AP view instead of PA, 0..1
    """
    is_ap = rng.random() < ap_share
    inspiration = float(np.clip(rng.normal(0.84 if is_ap else 0.95, 0.07), 0.66, 1.05))
    projection = sample_projection(rng, is_ap, (2 * patient.half_width, patient.lung_height * inspiration), size)
    return Pose(
        "AP" if is_ap else "PA",
        inspiration,
        rng.uniform(1.08, 1.25) if is_ap else 1.0,
        rng.uniform(0.25, 1.0) if is_ap else rng.uniform(-0.1, 0.45),
        rng.uniform(0, 0.5) if is_ap else rng.uniform(0.3, 1.0),
        projection,
    )


def sample_projection(rng: np.random.Generator, is_ap: bool, chest: tuple[float, float], size: int) -> Projection:
    """Where the chest lies on the detector, and how it is tilted and turned.

    rng: the generator of the image's pose
    is_ap: a bedside view, which is less carefully placed
    chest: width of the rib cage and height of the lungs in cm
    size: side of the image in pixels
    """
    width, lung_height = chest
    # The operator opens the field to the chest: width and height of the chest fill this share of it.
    chest_share = rng.normal(0.72, 0.055) if is_ap else rng.normal(0.755, 0.05)
    scale = size * min(chest_share / width, 0.97 / (lung_height + 2))
    scatter = 1.5 if is_ap else 0.8
    centre = np.array([0.5 + scatter * rng.normal(0, 0.028), 0.475 + scatter * rng.normal(0, 0.046)]) * size
    tilt = rng.normal(0, 0.045 if is_ap else 0.015)
    apex_to_centre = scale * lung_height / 2
    origin = (float(centre[0] + np.sin(tilt) * apex_to_centre), float(centre[1] - np.cos(tilt) * apex_to_centre))
    turn = rng.normal(0, 0.10 if is_ap else 0.04)
    return Projection(size, scale, origin, tilt, turn)
