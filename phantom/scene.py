"""What one phantom shows, before it is drawn: patient, pose, lungs with the air beside them, bullae."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from phantom import confusers, pneumothorax
from phantom.anatomy import Patient, Pose, sample_patient, sample_pose
from phantom.config import PhantomConfig
from phantom.lungs import Lung, sample_lungs
from phantom.topics import ImageKey, Topic, keyed_rng


@dataclass(frozen=True)
class Scene:
    """All that is settled about one image before attenuation is computed."""

    key: ImageKey
    config: PhantomConfig
    patient: Patient
    pose: Pose
    lungs: list[Lung]  # the patient's right, left
    bullae: list[confusers.Bulla]
    pneumothoraces: list[pneumothorax.Pneumothorax]
    mediastinal_shift: float  # cm to the image's right

    @cached_property
    def mask(self) -> np.ndarray:
        """The pleural air: bool [size, size]."""
        return pneumothorax.draw_air_mask(self.lungs, self.pose.projection)

    @cached_property
    def half_pose(self) -> Pose:
        """The view on a grid of half the size, for what has no fine detail."""
        return self.pose.with_size(self.pose.projection.size // 2)

    @cached_property
    def quarter_pose(self) -> Pose:
        """The view on a grid of a quarter of the size, for what is smooth."""
        return self.half_pose.with_size(self.half_pose.projection.size // 2)


def sample_scene(key: ImageKey, size: int, positive: bool | None, config: PhantomConfig) -> Scene:
    """One image's content.

    key: seed, patient and image; all randomness follows from it
    size: side of the image in pixels
    positive: with a pneumothorax or without; None leaves it to the config's share
    config: shares and rates
    """
    patient = sample_patient(keyed_rng(Topic.PATIENT, key.seed, key.patient_number))
    pose = sample_pose(key.create_image_rng(Topic.POSE), patient, size, config.ap_share)
    air_rng = key.create_image_rng(Topic.PNEUMOTHORAX)
    pneumothoraces = pneumothorax.choose_pneumothoraces(air_rng, positive, config)
    tension = pneumothorax.compute_tension_effects(pneumothoraces)
    lungs = sample_lungs(key.create_image_rng(Topic.LUNGS), patient, pose, tension)
    image_area = (size / pose.projection.scale) ** 2
    for air in pneumothoraces:
        index = (air.side + 1) // 2
        lungs[index] = pneumothorax.collapse_lung(lungs[index], air, air.share * image_area)
    bullae = confusers.sample_bullae(key.create_image_rng(Topic.BULLAE), lungs, config.bullae)
    return Scene(key, config, patient, pose, lungs, bullae, pneumothoraces, tension.shift)
