"""Two models on the same images: the difference of every metric, with its interval and p."""

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student

from cxr.panel import calibration, measure, resample
from cxr.panel.intervals import LEVEL, Draws

METHOD = (
    "difference over its standard error, that of the difference in resamples of the patients, the same for both; "
    "Student's with one degree of freedom less than the patients that the metric rests on; two-sided. Of the "
    "calibration error: the far ends of both models' intervals (too wide)"
)
NOTHING = {"low": None, "high": None, "p": None}


def differences(
    first: pd.DataFrame, second: pd.DataFrame, resamples: int, seed: int, prevalence: float
) -> dict[str, dict]:
    """name -> first, second, difference (second - first), low, high, p of every metric; None where undefined.

    first, second: the same images in the same order (tables.CASES), labels and patients equal.
    p is below .05 just where the interval leaves out 0: both are of `METHOD`.
    """
    patient, _ = resample.patients(first)
    counts = resample.draw(int(patient.max()) + 1, resamples, seed)
    resting = measure.bearers(first, patient)
    rows = [measure.sampled(cases, patient, counts, prevalence) for cases in (first, second)]
    names = [name for name in rows[0] if name in rows[1] and name != "floor"]  # one and the same for both
    found = {name: difference(name, *(row[name] for row in rows), resting) for name in names}
    return found | {measure.CALIBRATION: _calibration(first, second, patient, counts)}


def difference(name: str, first: np.ndarray, second: np.ndarray, bearers: dict[str, int]) -> dict:
    """The difference of one metric [1 + resamples] of two models, the sample itself in place 0."""
    draws = measure.draws(name, second - first, bearers)
    values = {"first": _defined(first[0]), "second": _defined(second[0]), "difference": _defined(draws.value)}
    return values | (tested(draws, np.inf if name in measure.AMOUNTS else 1.0) if draws.usable else NOTHING)


def tested(draws: Draws, most: float) -> dict[str, float]:
    """low, high and p of a difference of at most `most` in size.

    Without any error it is that of equal answers (p 1), or nothing is known.
    """
    if draws.error < 1e-12:
        return {"low": 0.0, "high": 0.0, "p": 1.0} if abs(draws.value) < 1e-12 else NOTHING
    half = draws.deviations * draws.error
    p = 2 * student.sf(abs(draws.value) / draws.error, draws.patients - 1)
    return {"low": max(draws.value - half, -most), "high": min(draws.value + half, most), "p": float(p)}


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _calibration(first: pd.DataFrame, second: pd.DataFrame, patient: np.ndarray, counts: np.ndarray) -> dict:
    """Of errors without their bias; resamples of these would have it again, so the two intervals are combined."""
    rows = [
        calibration.differences(cases["label"].to_numpy(float), cases["prob"].to_numpy(float), patient, counts)
        for cases in (first, second)
    ]
    ours, theirs = (calibration.inverted(row, len(np.unique(patient))) for row in rows)
    found = {"first": ours[0], "second": theirs[0], "difference": theirs[0] - ours[0]}
    return found | (NOTHING if None in (*ours, *theirs) else combined(ours, theirs))


def combined(first: tuple[float, float, float], second: tuple[float, float, float]) -> dict[str, float]:
    """low, high, p of a difference, from value, low and high of each side: the ends that lie farthest apart.

    Too wide, as both must err at once. The usual shorter one (MOVER: Zou and Donner, Stat Med 2008) covered 89.6 %
    where one side is calibrated, at the end of its range. p: the difference in units of its half interval, as a normal
    deviate.
    """
    value, low, high = second[0] - first[0], second[1] - first[2], second[2] - first[1]
    side = value - low if value > 0 else high - value
    deviates = norm.ppf((1 + LEVEL) / 2) * abs(value) / side if value and side else 0.0
    return {"low": low, "high": high, "p": float(2 * norm.sf(deviates))}
