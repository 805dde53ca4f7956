"""Resamples of the patients, as how often each patient was drawn: no image is ever copied."""

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
    for row in range(1, 1 + resamples):
        counts[row] = np.bincount(random.integers(0, patients, patients), minlength=patients)
    return counts


def blocks(counts: np.ndarray, columns: int):
    """Slices of resamples of such a length that their weights of `columns` images make a block."""
    step = max(1, BLOCK // max(columns, 1))
    return (slice(start, start + step) for start in range(0, len(counts), step))
