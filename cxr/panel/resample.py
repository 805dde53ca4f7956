"""Resamples of the patients, as how often each patient was drawn: no image is ever copied."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

BLOCK = 1 << 20  # weights of one block of resamples (8 MB): stays near the processor


def patients(cases: pd.DataFrame) -> tuple[np.ndarray, bool]:
    """Number of each image's patient, int [n], 0 .. patients - 1; and whether all patients are known.

    An image of an unknown patient is a patient of its own.
    """
    known = cases["patient"].notna()
    names = np.where(known, "p" + cases["patient"].astype(str), "i" + cases["image_id"].astype(str))
    return pd.factorize(names)[0], bool(known.all())


def draw(patients: int, resamples: int, seed: int) -> np.ndarray:
    """How often each patient is in each resample, uint8 [1 + resamples, patients]; row 0: the sample itself, once each.

    patients are drawn with replacement, as many as there are: all of a patient's images come and go
    together, as they are alike (Field and Welsh, J R Stat Soc B 2007).
    """
    random = np.random.default_rng(seed)
    counts = np.ones((1 + resamples, patients), np.uint8)
    for block in blocks(counts[1:], 16 * patients):  # small enough for the processor's own memory
        counts[1:][block] = _drawn(random, *counts[1:][block].shape)
    return counts


def _drawn(random: np.random.Generator, resamples: int, patients: int) -> np.ndarray:
    drawn = random.integers(0, patients, (resamples, patients)) + patients * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)


def blocks(counts: np.ndarray, columns: int) -> Iterator[slice]:
    """Slices of resamples of such a length that their weights of `columns` images make a block."""
    step = max(1, BLOCK // max(columns, 1))
    return (slice(start, start + step) for start in range(0, len(counts), step))
