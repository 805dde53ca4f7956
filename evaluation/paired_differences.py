"""Two models on the same images: the difference of every metric, with its interval and p."""

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student

from evaluation import calibration_error, metric_list, resampling
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
    """name -> first, second, difference (second - first), low, high, p of every metric; None where undefined.

    first, second: the same images in the same order (tables.CASES), labels and patients equal.
    p is below .05 just where the interval leaves out 0: both are of `METHOD`.
    """
    patient, _ = resampling.number_patients(first)
    counts = resampling.draw_resamples(int(patient.max()) + 1, resamples, seed)
    patients_by_metric = metric_list.count_patients_by_metric(first, patient)
    both_values = [metric_list.resample_metrics(cases, patient, counts, prevalence) for cases in (first, second)]
    names = [name for name in both_values[0] if name in both_values[1] and name != "floor"]  # one and the same for both
    comparisons = {
        name: compare_metric(name, *(model_values[name] for model_values in both_values), patients_by_metric)
        for name in names
    }
    return comparisons | {metric_list.CALIBRATION_ERROR: _compare_calibration(first, second, patient, counts)}


def compare_metric(name: str, first: np.ndarray, second: np.ndarray, patients_by_metric: dict[str, int]) -> dict:
    """The difference of one metric [1 + resamples] of two models, the sample itself in place 0."""
    draws = metric_list.build_resampled_metric(name, second - first, patients_by_metric)
    values = {
        "first": _none_if_undefined(first[0]),
        "second": _none_if_undefined(second[0]),
        "difference": _none_if_undefined(draws.value),
    }
    return values | (
        assess_difference(draws, np.inf if name in metric_list.AMOUNT_METRICS else 1.0)
        if draws.has_interval
        else NO_INTERVAL
    )


def assess_difference(draws: ResampledMetric, max_size: float) -> dict[str, float]:
    """low, high and p of a difference of at most `max_size` in size.

    Without any error it is that of equal answers (p 1), or nothing is known.
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
    """Of errors without their bias; resamples of these would have it again, so the two intervals are combined."""
    both_differences = [
        calibration_error.compute_bin_differences(
            cases["label"].to_numpy(float), cases["prob"].to_numpy(float), patient, counts
        )
        for cases in (first, second)
    ]
    first_estimate, second_estimate = (
        calibration_error.estimate_unbiased_error(bin_differences, len(np.unique(patient)))
        for bin_differences in both_differences
    )
    comparison = {
        "first": first_estimate[0],
        "second": second_estimate[0],
        "difference": second_estimate[0] - first_estimate[0],
    }
    return comparison | (
        NO_INTERVAL
        if None in (*first_estimate, *second_estimate)
        else combine_intervals(first_estimate, second_estimate)
    )


def combine_intervals(first: tuple[float, float, float], second: tuple[float, float, float]) -> dict[str, float]:
    """low, high, p of a difference, from value, low and high of each side: the ends that lie farthest apart.

    Too wide, as both must err at once. The usual shorter one (MOVER: Zou and Donner, Stat Med 2008) covered 89.6 %
    where one side is calibrated, at the end of its range. p: the difference in units of its half interval, as a normal
    deviate.
    """
    value, low, high = second[0] - first[0], second[1] - first[2], second[2] - first[1]
    side = value - low if value > 0 else high - value
    deviates = norm.ppf((1 + CONFIDENCE_LEVEL) / 2) * abs(value) / side if value and side else 0.0
    return {"low": low, "high": high, "p": float(2 * norm.sf(deviates))}
