"""Who is in a data set and how each of its images is written; settled before the first is rendered.

Numbers without a source are chosen by eye.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from phantom.config import PhantomConfig
from phantom.topics import DatasetTopic

# Share of the patients with one to five images: 2.06 on average, as SIIM-ACR's 12,047 images of 6,171 patients (1.95).
IMAGES_PER_PATIENT = (0.45, 0.25, 0.15, 0.09, 0.06)
# How much of the label depends on the patient, 0..1: a pneumothorax is followed up by further images.
PATIENT_SHARE_OF_LABEL = 0.5


@dataclass(frozen=True)
class PlannedImage:
    """One image of the data set, before it is made."""

    split: str  # train or test
    patient: int  # number, 0 upwards
    image_number: int  # of the patient's images, 0 upwards
    positive: bool
    image_id: str
    storage: str = "jpeg"  # jpeg, inverted (MONOCHROME1), twelve_bit or jpeg2000
    is_labelled: bool = True
    has_split_rows: bool = False
    has_hand_box: bool = False


def plan_dataset(config: PhantomConfig) -> list[PlannedImage]:
    """Every image: train and test share no patient; the shares in the config are met exactly, rounded up."""
    train_items = plan_split(config, "train", config.train, 0)
    first_test_patient = 1 + max((item.patient for item in train_items), default=-1)
    return train_items + plan_split(config, "test", config.test, first_test_patient)


def plan_split(config: PhantomConfig, split: str, count: int, first_patient: int) -> list[PlannedImage]:
    """The images of one split.

    config: seed and shares
    split: train or test
    count: number of images
    first_patient: the lowest number of a patient, 0 upwards
    """
    rng = np.random.default_rng([config.seed, len(split), count])
    patients, image_numbers = assign_patients(rng, count, first_patient)
    image_scores = rng.random(count) * (1 - PATIENT_SHARE_OF_LABEL)
    patient_rng = np.random.default_rng([config.seed, DatasetTopic.PATIENT_LABEL])
    patient_scores = PATIENT_SHARE_OF_LABEL * patient_rng.random(first_patient + count)
    is_positive = select_top_share(image_scores + patient_scores[patients], config.positive_share)
    storage = assign_storage(rng, count, config)
    is_labelled = ~choose_share(rng, count, config.unlabelled)
    has_split_rows, has_hand_box = (choose_share(rng, count, share) for share in (config.split_rows, config.hand_boxes))
    return [
        PlannedImage(split, int(patients[k]), int(image_numbers[k]), bool(is_positive[k]),
                     derive_image_id(config.seed, split, k), storage[k],
                     bool(is_labelled[k]), bool(has_split_rows[k]), bool(has_hand_box[k]))
        for k in range(count)
    ]  # fmt: skip


def assign_patients(rng: np.random.Generator, count: int, first_patient: int) -> tuple[np.ndarray, np.ndarray]:
    """Patient and number within the patient of each image: int [count] each."""
    image_counts = rng.choice(np.arange(1, 1 + len(IMAGES_PER_PATIENT)), count, p=IMAGES_PER_PATIENT)
    patients = np.repeat(first_patient + np.arange(count), image_counts)[:count]
    return patients, np.concatenate([np.arange(0), *map(np.arange, image_counts)])[:count]


def select_top_share(scores: np.ndarray, share: float) -> np.ndarray:
    """The given share with the highest scores: bool [n]."""
    is_selected = np.zeros(len(scores), bool)
    is_selected[np.argsort(-scores)[: round(share * len(scores))]] = True
    return is_selected


def choose_share(rng: np.random.Generator, count: int, share: float) -> np.ndarray:
    """A share of the images, rounded up: bool [count]."""
    return rng.permutation(count) < math.ceil(share * count)


def assign_storage(rng: np.random.Generator, count: int, config: PhantomConfig) -> list[str]:
    """How each image is stored, whatever its label."""
    shares = {"inverted": config.monochrome1, "twelve_bit": config.twelve_bit, "jpeg2000": config.jpeg2000}
    kinds = [kind for kind, share in shares.items() for _ in range(math.ceil(share * count))]
    kinds = (kinds + ["jpeg"] * count)[:count]
    return [kinds[k] for k in rng.permutation(count)]


def derive_number(seed: int, *words: object) -> int:
    """A 128-bit number that follows from the seed and the words: the first half of their SHA-256."""
    return int.from_bytes(hashlib.sha256(repr((seed, *words)).encode()).digest()[:16])


def derive_uid(seed: int, *words: object) -> str:
    """A DICOM UID under the root 2.25, which any 128-bit number may follow (DICOM PS3.5, B.2)."""
    return f"2.25.{derive_number(seed, *words)}"


def derive_image_id(seed: int, split: str, index: int) -> str:
    """A name as Kaggle's, a UID in train and ID_xxxxxxxxx in test; neither patient nor label shows in it."""
    if split == "train":
        return derive_uid(seed, "image", index)
    return f"ID_{derive_number(seed, 'test', index) >> 92:09x}"
