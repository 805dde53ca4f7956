"""The panel of metrics: every metric of a run's cases with its 95 % interval, for all images and by subgroup.

The metrics themselves come from metric_list.py; a metric that is added there appears in the panel.
"""

import pandas as pd

from cxr import tables
from cxr.errors import DataError, UsageError
from evaluation import metric_list, resampling, subgroups

PARTS = {"held_out": "train", "test": "test"}


def compute_panel(cases: pd.DataFrame, resamples: int = 2000, seed: int = 1, prevalence: float | None = None) -> dict:
    """Every metric of the held-out and of the test images with its 95 % interval, for all images and by subgroup.

    cases: tables.CASES, optionally with a column chest_tube; where nsd is null, the metrics of masks are left out
    resamples: how many bootstrap resamples of the patients
    seed: of the resamples
    prevalence: share of positives, 0 to 1, at which the predictive values are given; by default that of the images

    Returns resamples, seed, confidence, and held_out and test: what `measure_part` returns, None where there are no
    images. Raises DataError for an invalid value in the cases; UsageError where the prevalence is not between 0 and 1
    or a column is missing.
    """
    cases = check_cases(cases)
    results = {"resamples": resamples, "seed": seed, "confidence": 0.95}
    for name, split in PARTS.items():
        rows = cases[cases["split"] == split].reset_index(drop=True)
        results[name] = measure_part(rows, resamples, seed, prevalence) if len(rows) else None
    return results


def check_cases(cases: pd.DataFrame) -> pd.DataFrame:
    """Cases with the columns of tables.CASES, and chest_tube where given.

    Raises DataError that names the first image with an invalid value, UsageError where a column is missing.
    """
    table = tables.enforce_schema(cases, tables.CASES, "cases")
    for problem, is_wrong in {
        "label is neither 0 nor 1": ~table["label"].isin([0, 1]),
        "probability is not within 0 and 1": ~table["prob"].between(0, 1),
        "nsd is empty although other images have one": table["nsd"].isna() & table["nsd"].notna().any(),
    }.items():
        if is_wrong.any():
            raise DataError(f"cases: {table['image_id'][is_wrong].iloc[0]}: its {problem}; rerun stage 3")
    return table.assign(chest_tube=cases[subgroups.CHEST_TUBE]) if subgroups.CHEST_TUBE in cases else table


def measure_part(cases: pd.DataFrame, resamples: int, seed: int, prevalence: float | None) -> dict:
    """Every metric of one set of images with its interval, for all of them and by subgroup.

    cases: tables.CASES of the images
    resamples: how many bootstrap resamples of the patients
    seed: of the resamples
    prevalence: share of positives, 0 to 1, at which the predictive values are given; None: that of the images

    Returns images, positives, patients (numbers; patients None where unknown), resampled (by patient or image, in
    words), prevalence; all: `metric_list.estimate_all_metrics`; by: column -> group -> the same, with its images and
    positives. Raises UsageError where the prevalence is not between 0 and 1.
    """
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
    """The stated prevalence, or else that of the cases; UsageError where the stated one is not between 0 and 1."""
    if stated_prevalence is not None and not 0 < stated_prevalence < 1:
        raise UsageError(f"prevalence {stated_prevalence}: it must lie between 0 and 1, for example 0.2")
    return float(cases["label"].mean()) if stated_prevalence is None else stated_prevalence


def _measure_group(cases: pd.DataFrame, rows, column: str, patient, counts, prevalence: float) -> dict:
    metrics = metric_list.estimate_all_metrics(cases[rows], patient[rows], counts, prevalence)
    if column == "size":
        metrics = {name: metrics[name] for name in subgroups.SIZE_METRICS if name in metrics}
    return _count_cases(cases[rows]) | metrics


def _count_cases(cases: pd.DataFrame) -> dict[str, int]:
    return {"images": len(cases), "positives": int((cases["label"] > 0.5).sum())}
