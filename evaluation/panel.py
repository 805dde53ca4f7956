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
from evaluation import metric_list, resampling, subgroups

PARTS = {"held_out": "train", "test": "test"}


def compute_panel(cases: pd.DataFrame, resamples: int = 2000, seed: int = 1, prevalence: float | None = None) -> dict:
    """Every metric of the held-out and of the test images with its 95 % interval, for all and by group.

    cases: tables.CASES, and perhaps a column chest_tube; without masks (nsd null) their figures are left out.
    prevalence: at which the predictive values are stated; by default the share of positives among the images.
    Returns resamples, seed, and for held_out and test (None where there are none) `measure_part`. Raises DataError,
    and UsageError where the prevalence is not within 0 and 1 or a column is missing.
    """
    cases = check_cases(cases)
    results = {"resamples": resamples, "seed": seed, "confidence": 0.95}
    for name, split in PARTS.items():
        rows = cases[cases["split"] == split].reset_index(drop=True)
        results[name] = measure_part(rows, resamples, seed, prevalence) if len(rows) else None
    return results


def check_cases(cases: pd.DataFrame) -> pd.DataFrame:
    """Cases of the schema's columns, with chest_tube where given; DataError names the image that cannot be judged."""
    table = tables.enforce_schema(cases, tables.CASES, "cases")
    for problem, is_wrong in {
        "label is neither 0 nor 1": ~table["label"].isin([0, 1]),
        "probability is not within 0 and 1": ~table["prob"].between(0, 1),
        "nsd is empty, and others' is not": table["nsd"].isna() & table["nsd"].notna().any(),
    }.items():
        if is_wrong.any():
            raise DataError(f"cases: {table['image_id'][is_wrong].iloc[0]}: its {problem}; rerun stage 3")
    return table.assign(chest_tube=cases[subgroups.CHEST_TUBE]) if subgroups.CHEST_TUBE in cases else table


def measure_part(cases: pd.DataFrame, resamples: int, seed: int, prevalence: float | None) -> dict:
    """images, positives, patients (None: unknown), resampled, prevalence; all: every metric; by: column -> group."""
    patient, are_patients_known = resampling.number_patients(cases)
    counts = resampling.draw_resamples(int(patient.max()) + 1, resamples, seed)
    stated_prevalence = resolve_prevalence(cases, prevalence)
    by_column = {
        column: {
            name: _measure_group(cases, rows, column, patient, counts, stated_prevalence)
            for name, rows in subsets.items()
        }
        for column, subsets in subgroups.group_cases(cases).items()
    }
    return _count_cases(cases) | {
        "patients": int(patient.max()) + 1 if are_patients_known else None,
        "resampled": "by patient" if are_patients_known else "by image, too narrow",
        "prevalence": stated_prevalence,
        "all": metric_list.estimate_all_metrics(cases, patient, counts, stated_prevalence),
        "by": by_column,
    }


def resolve_prevalence(cases: pd.DataFrame, stated_prevalence: float | None) -> float:
    """The stated prevalence, or else the cases' own; UsageError where a stated one means nothing."""
    if stated_prevalence is not None and not 0 < stated_prevalence < 1:
        raise UsageError(f"prevalence {stated_prevalence}: a share between 0 and 1 is meant, .2 say")
    return float(cases["label"].mean()) if stated_prevalence is None else stated_prevalence


def _measure_group(cases: pd.DataFrame, rows, column: str, patient, counts, prevalence: float) -> dict:
    metrics = metric_list.estimate_all_metrics(cases[rows], patient[rows], counts, prevalence)
    if column == "size":
        metrics = {name: metrics[name] for name in subgroups.SIZE_METRICS if name in metrics}
    return _count_cases(cases[rows]) | metrics


def _count_cases(cases: pd.DataFrame) -> dict[str, int]:
    return {"images": len(cases), "positives": int((cases["label"] > 0.5).sum())}
