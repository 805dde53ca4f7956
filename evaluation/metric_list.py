"""The list of metrics of the panel: their values in every resample, the patients they rest on, their intervals.

To add a metric, add its terms in ratios.py, or its values in ranking.py; then name it here in
- AMOUNT_METRICS, if it has no upper bound (a metric within 0..1 needs no entry);
- POSITIVES_METRICS, if it is computed from images with a pneumothorax alone;
- RANKING_METRICS, if it is one of the ranking.
CONTRIBUTING.md ('Add a metric') says what else it needs.
"""

import numpy as np
import pandas as pd

from evaluation import calibration_error, ranking, ratios
from evaluation.intervals import ResampledMetric, compute_amount_interval, compute_share_interval
from evaluation.ranking import SENSITIVITIES, SPECIFICITIES

RANKING_METRICS = ("auc", "auc_pooled", "average_precision", *SPECIFICITIES, *SENSITIVITIES)
"""Metrics that compare positives with negatives: they rest on whichever of the two come from fewer patients."""
POSITIVES_METRICS = ("sensitivity", "positives_dice", "positives_iou", "positives_nsd", "lesion_sensitivity")
AMOUNT_METRICS = ("log_loss", "false_parts_per_image")
PREDICTIVE_VALUES = ("ppv", "npv")
CALIBRATION_ERROR = "calibration_error"


def resample_metrics(
    cases: pd.DataFrame, patient: np.ndarray, counts: np.ndarray, prevalence: float
) -> dict[str, np.ndarray]:
    """Metric -> its value in the sample (index 0) and in every resample, [1 + resamples]; nan where it is undefined.

    cases: tables.CASES of n images
    patient: number of each image's patient, int [n] (`resampling.number_patients`)
    counts: how often each patient is in each resample, [1 + resamples, patients] (`resampling.draw_resamples`)
    prevalence: share of positives, 0 to 1, at which the predictive values are given

    The calibration error is not among them. Without masks (nsd null) the metrics of masks are left out.
    """
    label, prob, fold, head = (cases[name].to_numpy() for name in ("label", "prob", "fold", "head"))
    values = {"auc": ranking.compute_mean_fold_auc(label, prob, fold, head, patient, counts)}
    values |= ranking.compute_curve_metrics(label, prob, patient, counts)
    terms = ratios.build_probability_terms(cases) | (ratios.build_mask_terms(cases) if has_masks(cases) else {})
    values |= ratios.compute_ratios(terms, patient, counts)
    return values | ratios.compute_predictive_values(values["sensitivity"], values["specificity"], prevalence)


def has_masks(cases: pd.DataFrame) -> bool:
    """Whether the cases have predicted masks: nsd is known."""
    return bool(cases["nsd"].notna().all())


def build_resampled_metric(name: str, values: np.ndarray, patients_by_metric: dict[str, int]) -> ResampledMetric:
    """A metric from its values [1 + resamples], with the patients that it rests on (`count_patients_by_metric`)."""
    return ResampledMetric(float(values[0]), values[1:], patients_by_metric.get(name, patients_by_metric["all"]))


def count_patients_by_metric(cases: pd.DataFrame, patient: np.ndarray) -> dict[str, int]:
    """Metric -> how many patients it rests on; a metric without an entry rests on as many as 'all' says."""
    positive = cases["label"].to_numpy() > 0.5
    positive_patients, negative_patients = (len(np.unique(patient[rows])) for rows in (positive, ~positive))
    two_class_metrics = (*RANKING_METRICS, *PREDICTIVE_VALUES)
    patient_counts = {"all": len(np.unique(patient)), "specificity": negative_patients}
    return (
        patient_counts
        | dict.fromkeys(POSITIVES_METRICS, positive_patients)
        | dict.fromkeys(two_class_metrics, min(positive_patients, negative_patients))
    )


def estimate_metric(name: str, draws: ResampledMetric) -> dict:
    """value, low and high of the metric `name`; low and high None without an interval, all None where undefined."""
    if not draws.has_interval:
        value = draws.value if np.isfinite(draws.value) else None
        return {"value": value, "low": None, "high": None}
    low, high = compute_amount_interval(draws) if name in AMOUNT_METRICS else compute_share_interval(draws)
    return {"value": draws.value, "low": low, "high": high}


def estimate_all_metrics(
    cases: pd.DataFrame, patient: np.ndarray, counts: np.ndarray, prevalence: float
) -> dict[str, dict]:
    """Metric -> its value and interval, for every metric of the cases.

    cases: tables.CASES of n images
    patient: number of each image's patient, int [n] (`resampling.number_patients`)
    counts: how often each patient is in each resample, [1 + resamples, patients] (`resampling.draw_resamples`)
    prevalence: share of positives, 0 to 1, at which the predictive values are given

    Returns value, low and high of each (`estimate_metric`); of the calibration error also counted, the plain ECE.
    """
    patients_by_metric = count_patients_by_metric(cases, patient)
    values = resample_metrics(cases, patient, counts, prevalence)
    estimates = {
        name: estimate_metric(name, build_resampled_metric(name, row, patients_by_metric))
        for name, row in values.items()
    }
    return estimates | {CALIBRATION_ERROR: estimate_calibration_error(cases, patient, counts)}


def estimate_calibration_error(cases: pd.DataFrame, patient: np.ndarray, counts: np.ndarray) -> dict:
    """value (without its bias), low and high of the calibration error; counted: the plain ECE, with its bias."""
    bin_differences = calibration_error.compute_bin_differences(
        cases["label"].to_numpy(float), cases["prob"].to_numpy(float), patient, counts
    )
    value, low, high = calibration_error.estimate_unbiased_error(bin_differences, len(np.unique(patient)))
    return {"value": value, "low": low, "high": high, "counted": float(np.abs(bin_differences[:, 0]).sum())}
