"""Bootstrap resamples of the patients, stored as how often each patient was drawn: no image is ever copied."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

BLOCK = 1 << 20  # weights in one block of resamples (8 MB as float64): fits the processor's cache


def number_patients(cases: pd.DataFrame) -> tuple[np.ndarray, bool]:
    """The patients as numbers: of each image, int [n], 0 .. patients - 1; and whether all patients are known.

    An image whose patient is unknown counts as a patient of its own.
    """
    is_known = cases["patient"].notna()
    patient_keys = np.where(is_known, "p" + cases["patient"].astype(str), "i" + cases["image_id"].astype(str))
    return pd.factorize(patient_keys)[0], bool(is_known.all())


def draw_resamples(patient_count: int, resamples: int, seed: int) -> np.ndarray:
    """How often each patient is in each resample, uint8 [1 + resamples, patients]; row 0: the sample itself, once each.

    As many patients as there are, are drawn with replacement. All images of a patient are drawn together, because they
    are alike (cluster bootstrap: Field and Welsh, J R Stat Soc B 2007).
    """
    rng = np.random.default_rng(seed)
    counts = np.ones((1 + resamples, patient_count), np.uint8)
    for block in split_into_blocks(counts[1:], 16 * patient_count):  # small enough for the processor's cache
        counts[1:][block] = _draw_block(rng, *counts[1:][block].shape)
    return counts


def _draw_block(rng: np.random.Generator, resamples: int, patient_count: int) -> np.ndarray:
    draws = rng.integers(0, patient_count, (resamples, patient_count)) + patient_count * np.arange(resamples)[:, None]
    return np.bincount(draws.ravel(), minlength=draws.size).reshape(draws.shape)


def split_into_blocks(counts: np.ndarray, columns: int) -> Iterator[slice]:
    """Slices of the resamples, so long that a slice's weights of `columns` images or patients make BLOCK numbers."""
    block_length = max(1, BLOCK // max(columns, 1))
    return (slice(start, start + block_length) for start in range(0, len(counts), block_length))
