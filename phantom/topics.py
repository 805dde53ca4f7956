"""The topics that random numbers are drawn for, each with numbers of its own."""

from enum import IntEnum

import numpy as np


class Topic(IntEnum):
    """What is drawn at random; the values are part of every phantom, so they never change."""

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


VESSEL_TREES = (Topic.RIGHT_VESSEL_TREE, Topic.LEFT_VESSEL_TREE)


def keyed_rng(topic: Topic, *key: int) -> np.random.Generator:
    """Random numbers of a topic, so that a change in one topic leaves all others as they were.

    key: seed and patient number, and for what differs between a patient's images the image's number, too.
    """
    return np.random.default_rng([*key, topic])
