"""Who is in the data set and how each image is written; settled before the first is rendered."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from phantom.config import PhantomConfig

IMAGES_A_PATIENT = (0.45, 0.25, 0.15, 0.09, 0.06)  # one to five; the real set's mean is 1.95
KINSHIP = 0.5  # how much of the label is the patient's: a pneumothorax is followed up by further images


@dataclass(frozen=True)
class Item:
    """One image of the data set, before it is made."""

    split: str
    patient: int
    view: int
    positive: bool
    image_id: str
    storage: str = "jpeg"  # jpeg, inverted (MONOCHROME1), twelve_bit or jpeg2000
    labelled: bool = True
    split_rows: bool = False
    hand_box: bool = False


def plan(config: PhantomConfig) -> list[Item]:
    """Every image: train and test share no patient; the shares in the config are met exactly, rounded up."""
    train = split_plan(config, "train", config.train, 0)
    return train + split_plan(config, "test", config.test, 1 + max((item.patient for item in train), default=-1))


def split_plan(config: PhantomConfig, split: str, count: int, first: int) -> list[Item]:
    """One split's images, of patients numbered from `first`."""
    rng = np.random.default_rng([config.seed, len(split), count])
    patients, views = draw_patients(rng, count, first)
    own = rng.random(count) * (1 - KINSHIP)
    positive = top_share(
        own + KINSHIP * np.random.default_rng([config.seed, 5]).random(first + count)[patients], config.positive_share
    )
    storage = draw_storage(rng, count, config)
    labelled = ~some(rng, count, config.unlabelled)
    rows, boxes = some(rng, count, config.split_rows), some(rng, count, config.hand_boxes)
    return [
        Item(split, int(patients[k]), int(views[k]), bool(positive[k]), image_id(config.seed, split, k), storage[k],
             bool(labelled[k]), bool(rows[k]), bool(boxes[k]))
        for k in range(count)
    ]  # fmt: skip


def draw_patients(rng: np.random.Generator, count: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Patient and number within the patient of each image: int [count] each."""
    sizes = rng.choice(np.arange(1, 1 + len(IMAGES_A_PATIENT)), count, p=IMAGES_A_PATIENT)
    patients = np.repeat(first + np.arange(count), sizes)[:count]
    return patients, np.concatenate([np.arange(0), *map(np.arange, sizes)])[:count]


def top_share(score: np.ndarray, share: float) -> np.ndarray:
    """The given share with the highest scores: bool [n]."""
    chosen = np.zeros(len(score), bool)
    chosen[np.argsort(-score)[: round(share * len(score))]] = True
    return chosen


def some(rng: np.random.Generator, count: int, share: float) -> np.ndarray:
    """A share of the images, rounded up: bool [count]."""
    return rng.permutation(count) < math.ceil(share * count)


def draw_storage(rng: np.random.Generator, count: int, config: PhantomConfig) -> list[str]:
    """How each image is stored; whatever the label."""
    kinds = []
    for kind, share in (
        ("inverted", config.monochrome1),
        ("twelve_bit", config.twelve_bit),
        ("jpeg2000", config.jpeg2000),
    ):
        kinds += [kind] * math.ceil(share * count)
    kinds = (kinds + ["jpeg"] * count)[:count]
    return [kinds[k] for k in rng.permutation(count)]


def number(seed: int, *what: object) -> int:
    """A 128-bit number that only these words give."""
    return int.from_bytes(hashlib.sha256(repr((seed, *what)).encode()).digest()[:16])


def uid(seed: int, *what: object) -> str:
    """A DICOM UID under 2.25, the root for numbers drawn at random."""
    return f"2.25.{number(seed, *what)}"


def image_id(seed: int, split: str, index: int) -> str:
    """Names as Kaggle's: a UID in train, ID_xxxxxxxxx in test; they tell nothing of patient or label."""
    return uid(seed, "image", index) if split == "train" else f"ID_{number(seed, 'test', index) >> 92:09x}"
