"""The settings of a data set of phantoms: read from config.yaml, where each is explained."""

from functools import cache
from pathlib import Path

from cxr.config import StrictModel, load_settings


class PhantomConfig(StrictModel):
    """What to make, how often each thing is seen, and how it is written; shares are 0..1."""

    train: int
    test: int
    seed: int
    size: int
    positive_share: float
    least_share: float
    most_share: float
    both_sides: float
    overlap: tuple[float, float]
    overlap_rise: float
    ap_share: float
    skin_folds: tuple[float, float]
    bullae: float
    disease: float
    collimation: float
    noise: float
    jpeg_quality: int
    monochrome1: float
    twelve_bit: float
    jpeg2000: float
    split_rows: float
    unlabelled: float
    hand_boxes: float
    reader_jitter: float


SMOKE = {"train": 24, "test": 8, "size": 256, "positive_share": 0.5}
"""Settings of a trial that only shows that everything runs: about a dozen patients to train on."""


@cache
def default_config() -> PhantomConfig:
    """The numbers of config.yaml."""
    return load_settings(Path(__file__).with_name("config.yaml"), PhantomConfig)
