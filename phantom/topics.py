"""Random generators by topic: a change in what one topic draws leaves all other topics as they were.

A generator is numpy's `default_rng` of a list of numbers: the key, and the topic's number. The numbers below are part
of every phantom: another number for a topic is another set of phantoms.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np


class Topic(IntEnum):
    """What is drawn at random for one phantom."""

    PATIENT = 0
    POSE = 1
    PNEUMOTHORAX = 2
    LUNGS = 3
    BULLAE = 4
    RIGHT_VESSEL_TREE = 5
    LEFT_VESSEL_TREE = 6
    VESSEL_STRENGTH = 7
    RIBS = 8
    SHOULDERS = 9
    SPINE = 10
    DEVICES = 11
    LUNG_DENSITY = 12
    LUNG_TEXTURE = 13
    TORSO = 14
    HILA = 15
    DISEASE = 16
    BOWEL_GAS = 17
    SKIN_FOLDS = 18
    EXPOSURE = 19
    LUNG_OVERLAP = 20


class DatasetTopic(IntEnum):
    """What is drawn at random for a data set; it stands second in the list, after the data set's seed."""

    PATIENT_LABEL = 5
    PATIENT_NUMBERS = 6
    HAND_BOX = 8


def keyed_rng(topic: Topic, *key: int) -> np.random.Generator:
    """The generator of one topic under a key of numbers."""
    return np.random.default_rng([*key, topic])


class ImageKey(NamedTuple):
    """The three numbers that a phantom follows from."""

    seed: int
    patient_number: int
    image_number: int

    def create_image_rng(self, topic: Topic) -> np.random.Generator:
        """The generator of a topic that differs between the images of a patient."""
        return keyed_rng(topic, self.seed, self.patient_number, self.image_number + 1)

    def create_patient_rng(self, topic: Topic) -> np.random.Generator:
        """The generator of a topic that all images of a patient share."""
        return keyed_rng(topic, self.seed, self.patient_number, 0)
