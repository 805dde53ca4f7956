"""All metrics of a set of cases in every resample."""

import numpy as np
import pandas as pd

from evaluation import calibration_error, ranking, ratios
from evaluation.intervals import ResampledMetric, compute_amount_interval, compute_share_interval
from evaluation.ranking import SENSITIVITIES, SPECIFICITIES

RANKING_METRICS = ("auc", "auc_pooled", "average_precision", *SPECIFICITIES, *SENSITIVITIES)
AMOUNT_METRICS = ("log_loss", "false_parts_per_image")
PREDICTIVE_VALUES = ("ppv", "npv")
CALIBRATION_ERROR = "calibration_error"


def resample_metrics(
    cases: pd.DataFrame, patient: np.ndarray, counts: np.ndarray, prevalence: float
) -> dict[str, np.ndarray]:
    """name -> the metric in the sample (place 0) and in every resample, [1 + resamples]; not the calibration error.

    patient [n], counts [1 + resamples, patients]: of `resample`. Without masks (no nsd) there are no figures of them.
    """
    label, prob, fold, head = (cases[name].to_numpy() for name in ("label", "prob", "fold", "head"))
    values = {"auc": ranking.compute_mean_fold_auc(label, prob, fold, head, patient, counts)}
    values |= ranking.compute_curve_metrics(label, prob, patient, counts)
    terms = ratios.build_probability_terms(cases) | (ratios.build_mask_terms(cases) if has_masks(cases) else {})
    values |= ratios.compute_ratios(terms, patient, counts)
    return values | ratios.compute_predictive_values(values["sensitivity"], values["specificity"], prevalence)


def has_masks(cases: pd.DataFrame) -> bool:
    """Whether masks were judged: the surface distance is known."""
    return bool(cases["nsd"].notna().all())


def build_resampled_metric(name: str, values: np.ndarray, patients_by_metric: dict[str, int]) -> ResampledMetric:
    """A metric's draws, with the number of patients that it rests on (of `patients_by_metric`)."""
    return ResampledMetric(float(values[0]), values[1:], patients_by_metric.get(name, patients_by_metric["all"]))


def count_patients_by_metric(cases: pd.DataFrame, patient: np.ndarray) -> dict[str, int]:
    """How many patients each metric rests on; those that are not named, on all."""
    positive = cases["label"].to_numpy() > 0.5
    positive_patients, negative_patients = (len(np.unique(patient[rows])) for rows in (positive, ~positive))
    positives_metrics = ("sensitivity", "positives_dice", "positives_iou", "positives_nsd", "lesion_sensitivity")
    two_class_metrics = (*RANKING_METRICS, *PREDICTIVE_VALUES)
    patient_counts = {"all": len(np.unique(patient)), "specificity": negative_patients}
    return (
        patient_counts
        | dict.fromkeys(positives_metrics, positive_patients)
        | dict.fromkeys(two_class_metrics, min(positive_patients, negative_patients))
    )


def estimate_metric(name: str, draws: ResampledMetric) -> dict:
    """value, low and high of a metric; low and high None where it has no interval, all None where it is undefined."""
    if not draws.has_interval:
        value = draws.value if np.isfinite(draws.value) else None
        return {"value": value, "low": None, "high": None}
    low, high = compute_amount_interval(draws) if name in AMOUNT_METRICS else compute_share_interval(draws)
    return {"value": draws.value, "low": low, "high": high}


def estimate_all_metrics(
    cases: pd.DataFrame, patient: np.ndarray, counts: np.ndarray, prevalence: float
) -> dict[str, dict]:
    """name -> value, low, high of every metric of the cases (`estimate_metric`)."""
    patients_by_metric = count_patients_by_metric(cases, patient)
    values = resample_metrics(cases, patient, counts, prevalence)
    estimates = {
        name: estimate_metric(name, build_resampled_metric(name, row, patients_by_metric))
        for name, row in values.items()
    }
    return estimates | {CALIBRATION_ERROR: estimate_calibration_error(cases, patient, counts)}


def estimate_calibration_error(cases: pd.DataFrame, patient: np.ndarray, counts: np.ndarray) -> dict:
    """value (without bias), low, high; counted: the plain expected calibration error."""
    bin_differences = calibration_error.compute_bin_differences(
        cases["label"].to_numpy(float), cases["prob"].to_numpy(float), patient, counts
    )
    value, low, high = calibration_error.estimate_unbiased_error(bin_differences, len(np.unique(patient)))
    return {"value": value, "low": low, "high": high, "counted": float(np.abs(bin_differences[:, 0]).sum())}
