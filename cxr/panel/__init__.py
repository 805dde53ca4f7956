"""The panel of metrics: what a run's cases are worth, each figure with its 95 % interval.

measure.py     all metrics in all resamples: ranking.py (AUC, points of the ROC curve), ratios.py (means and rates),
               calibration.py (calibration error)
resample.py    patients drawn with replacement       intervals.py  the interval of each metric, and why that one
groups.py      view, sex, age, size, chest tube      paired.py     two models on the same images
masks.py       one final mask beside the truth
"""

import pandas as pd

from cxr import tables
from cxr.errors import DataError, UsageError
from cxr.panel import groups, measure, resample

PARTS = {"held_out": "train", "test": "test"}


def panel(cases: pd.DataFrame, resamples: int = 2000, seed: int = 1, prevalence: float | None = None) -> dict:
    """Every metric of the held-out and of the test images with its 95 % interval, for all and by group.

    cases: tables.CASES, and perhaps a column chest_tube; without masks (nsd null) their figures are left out.
    prevalence: at which the predictive values are stated; by default the share of positives among the images.
    Returns resamples, seed, and for held_out and test (None where there are none) `part`. Raises DataError,
    and UsageError where the prevalence is not within 0 and 1 or a column is missing.
    """
    cases = checked(cases)
    found = {"resamples": resamples, "seed": seed, "confidence": 0.95}
    for name, split in PARTS.items():
        rows = cases[cases["split"] == split].reset_index(drop=True)
        found[name] = part(rows, resamples, seed, prevalence) if len(rows) else None
    return found


def checked(cases: pd.DataFrame) -> pd.DataFrame:
    """Cases of the schema's columns, with chest_tube where given; DataError names the image that cannot be judged."""
    found = tables.checked(cases, tables.CASES, "cases")
    for name, wrong in {
        "label is neither 0 nor 1": ~found["label"].isin([0, 1]),
        "probability is not within 0 and 1": ~found["prob"].between(0, 1),
        "nsd is empty, and others' is not": found["nsd"].isna() & found["nsd"].notna().any(),
    }.items():
        if wrong.any():
            raise DataError(f"cases: {found['image_id'][wrong].iloc[0]}: its {name}; rerun stage 3")
    return found.assign(chest_tube=cases[groups.CHEST_TUBE]) if groups.CHEST_TUBE in cases else found


def part(cases: pd.DataFrame, resamples: int, seed: int, prevalence: float | None) -> dict:
    """images, positives, patients (None: unknown), resampled, prevalence; all: every metric; by: column -> group."""
    patient, known = resample.patients(cases)
    counts = resample.draw(int(patient.max()) + 1, resamples, seed)
    stated = prevalence_of(cases, prevalence)
    by = {
        column: {name: _group(cases, rows, column, patient, counts, stated) for name, rows in parts.items()}
        for column, parts in groups.groups(cases).items()
    }
    return _described(cases) | {
        "patients": int(patient.max()) + 1 if known else None,
        "resampled": "by patient" if known else "by image, too narrow",
        "prevalence": stated,
        "all": measure.figures(cases, patient, counts, stated),
        "by": by,
    }


def prevalence_of(cases: pd.DataFrame, stated: float | None) -> float:
    """The stated prevalence, or else the cases' own; UsageError where a stated one means nothing."""
    if stated is not None and not 0 < stated < 1:
        raise UsageError(f"prevalence {stated}: a share between 0 and 1 is meant, .2 say")
    return float(cases["label"].mean()) if stated is None else stated


def _group(cases: pd.DataFrame, rows, column: str, patient, counts, prevalence: float) -> dict:
    found = measure.figures(cases[rows], patient[rows], counts, prevalence)
    if column == "size":
        found = {name: found[name] for name in groups.BY_SIZE if name in found}
    return _described(cases[rows]) | found


def _described(cases: pd.DataFrame) -> dict[str, int]:
    return {"images": len(cases), "positives": int((cases["label"] > 0.5).sum())}
