"""Two models on the same images: the difference of every metric, with its interval and p."""

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student

from evaluation import metric_list, resampling
from evaluation.intervals import CONFIDENCE_LEVEL, ResampledMetric

METHOD = (
    "difference over its standard error, that of the difference in resamples of the patients, the same for both; "
    "Student's with one degree of freedom less than the patients that the metric rests on; two-sided. Of the "
    "calibration error: the far ends of both models' intervals (too wide)"
)
NO_INTERVAL = {"low": None, "high": None, "p": None}


def compare_models(
    first: pd.DataFrame, second: pd.DataFrame, resamples: int, seed: int, prevalence: float
) -> dict[str, dict]:
    """The difference of every metric between two models on the same images, with its 95 % interval and p.

    first: tables.CASES of the first model
    second: tables.CASES of the second model: the same images in the same order, with equal labels and patients
    resamples: how many bootstrap resamples of the patients, the same for both models
    seed: of the resamples
    prevalence: share of positives, 0 to 1, at which the predictive values are given

    Returns metric -> first, second, difference (second - first), low, high, p; None where undefined. Interval and p
    both follow METHOD, so p is below .05 exactly where the interval leaves out 0.
    """
    patient, _ = resampling.number_patients(first)
    counts = resampling.draw_resamples(int(patient.max()) + 1, resamples, seed)
    patients_by_metric = metric_list.count_patients_by_metric(first, patient)
    both_values = [metric_list.resample_metrics(cases, patient, counts, prevalence) for cases in (first, second)]
    # The floor depends on the images alone: it is equal for both models.
    names = [name for name in both_values[0] if name in both_values[1] and name != "floor"]
    comparisons = {
        name: compare_metric(name, *(model_values[name] for model_values in both_values), patients_by_metric)
        for name in names
    }
    return comparisons | {metric_list.CALIBRATION_ERROR: _compare_calibration(first, second, patient, counts)}


def compare_metric(name: str, first: np.ndarray, second: np.ndarray, patients_by_metric: dict[str, int]) -> dict:
    """The difference of one metric between two models, with its interval and p.

    name: of the metric
    first: its values of the first model, [1 + resamples], the sample itself at index 0
    second: the same of the second model, in the same resamples
    patients_by_metric: of `metric_list.count_patients_by_metric`

    Returns first, second, difference (second - first), low, high, p; None where undefined.
    """
    draws = metric_list.build_resampled_metric(name, second - first, patients_by_metric)
    comparison = {
        "first": _none_if_undefined(first[0]),
        "second": _none_if_undefined(second[0]),
        "difference": _none_if_undefined(draws.value),
    }
    max_size = np.inf if name in metric_list.AMOUNT_METRICS else 1.0
    return comparison | (assess_difference(draws, max_size) if draws.has_interval else NO_INTERVAL)


def assess_difference(draws: ResampledMetric, max_size: float) -> dict[str, float]:
    """low, high and p of a difference whose absolute value is at most `max_size` (Student's t, two-sided).

    Where the resamples show no error, equal answers have the interval 0..0 and p 1; of unequal ones all are None.
    """
    if draws.standard_error < 1e-12:
        return {"low": 0.0, "high": 0.0, "p": 1.0} if abs(draws.value) < 1e-12 else NO_INTERVAL
    half_width = draws.critical_value * draws.standard_error
    p = 2 * student.sf(abs(draws.value) / draws.standard_error, draws.patients - 1)
    return {
        "low": max(draws.value - half_width, -max_size),
        "high": min(draws.value + half_width, max_size),
        "p": float(p),
    }


def _none_if_undefined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _compare_calibration(first: pd.DataFrame, second: pd.DataFrame, patient: np.ndarray, counts: np.ndarray) -> dict:
    """The difference of the unbiased errors; resamples would bring the bias back, so the intervals are combined."""
    estimates = [metric_list.estimate_calibration_error(cases, patient, counts) for cases in (first, second)]
    first_error, second_error = (estimate["value"] for estimate in estimates)
    comparison = {"first": first_error, "second": second_error, "difference": second_error - first_error}
    if any(estimate["low"] is None for estimate in estimates):
        return comparison | NO_INTERVAL
    sides = [(estimate["value"], estimate["low"], estimate["high"]) for estimate in estimates]
    return comparison | combine_intervals(*sides)


def combine_intervals(first: tuple[float, float, float], second: tuple[float, float, float]) -> dict[str, float]:
    """low, high, p of second - first, from (value, low, high) of each: the ends that lie farthest apart.

    The interval is too wide, because it assumes that both err in opposite directions at once. The usual shorter one
    (MOVER: Zou and Donner, Stat Med 2008) covered 89.6 % where one model is calibrated, at the end of its range. For p
    the difference, divided by the half width of the interval on the side of 0, counts as a normal deviate.
    """
    value, low, high = second[0] - first[0], second[1] - first[2], second[2] - first[1]
    side = value - low if value > 0 else high - value
    deviates = norm.ppf((1 + CONFIDENCE_LEVEL) / 2) * abs(value) / side if value and side else 0.0
    return {"low": low, "high": high, "p": float(2 * norm.sf(deviates))}
