"""Calibration: from a head's logit to a calibrated probability; its values are kept in decision.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxr.errors import UsageError
from cxr.files import read_json
from stage3_stack.config import STAGE3
from stage3_stack.stacking.fold_rows import sigmoid

MIN_SLOPE = 0.05  # a calibration never reverses the order of images
SLOPE_PULL = 1.0  # penalty, in log-likelihood, that draws the slope towards 1; it matters on a handful of rows only


class Calibration(NamedTuple):
    """A fitted calibration.

    values: platt [slope, intercept]; temperature [slope], which is 1 / temperature; isotonic [2, knots]: logits and
    their probabilities, with linear interpolation between them and constant beyond; without knots it is the sigmoid.
    """

    kind: str
    """platt, temperature or isotonic"""
    values: np.ndarray

    def apply_to_logits(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of logits [n]."""
        if self.kind == "isotonic":
            return np.interp(logits, *self.values) if self.values.size else sigmoid(logits)
        slope, intercept = (*self.values, 0.0)[:2]
        return sigmoid(slope * logits + intercept)


def fit_calibration(kind: str, labels: np.ndarray, logits: np.ndarray) -> Calibration:
    """Fit a calibration of this kind to labels [n] of 0 or 1 and logits [n]; with one class only it is the sigmoid."""
    if len(np.unique(labels)) < 2:
        return Calibration(kind, np.array(SIGMOID_VALUES[kind]))
    fitters = {"platt": fit_platt, "temperature": fit_temperature, "isotonic": fit_isotonic}
    return Calibration(kind, fitters[kind](labels, logits))


SIGMOID_VALUES = {"platt": [1.0, 0.0], "temperature": [1.0], "isotonic": [[], []]}


def fit_platt(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Slope and intercept, [2], with which sigmoid(slope * logit + intercept) fits labels [n] of both classes.

    On Platt's smoothed targets (Platt 1999; Lin, Lin and Weng 2007), so that separable rows give no infinite slope.
    """
    target = _smooth_labels(labels)
    weights = _fit_weights(np.stack([logits, np.ones(len(logits))], axis=1), target)
    if weights[0] >= MIN_SLOPE:
        return weights
    base_logit = np.log(target.mean() / (1 - target.mean()))
    return np.array([MIN_SLOPE, base_logit - MIN_SLOPE * np.mean(logits)])


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The slope alone, [1]: 1 / temperature (Guo et al., ICML 2017); targets and penalty are as for platt."""
    return np.maximum(_fit_weights(np.asarray(logits, float)[:, None], _smooth_labels(labels)), MIN_SLOPE)


def fit_isotonic(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Isotonic regression of labels [n] on logits [n], as [2, knots]: logits and probabilities, none of them 0 or 1.

    scikit-learn's (Zadrozny and Elkan, KDD 2002), with two rows added after Laplace's rule of succession: a positive at
    the lowest logit and a negative at the highest. So n negatives below the first positive get 1 / (n + 1), not 0. Rows
    of one step become ties.
    """
    from sklearn.isotonic import IsotonicRegression

    padded_logits = np.concatenate([[np.min(logits)], logits, [np.max(logits)]])
    regression = IsotonicRegression(out_of_bounds="clip").fit(padded_logits, np.concatenate([[1.0], labels, [0.0]]))
    rising = np.maximum.accumulate(regression.y_thresholds_)  # they may fall by rounding
    return np.stack([regression.X_thresholds_, rising])


def _smooth_labels(labels: np.ndarray) -> np.ndarray:
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    return np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _fit_weights(design: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights of the design's columns, [n, c] with the logit first, that minimise log-loss plus penalty."""
    from scipy.optimize import minimize  # plain Newton steps did not converge on separable rows in reversed order

    start, pull = np.eye(design.shape[1])[0], np.array([SLOPE_PULL, 1e-6])[: design.shape[1]]

    def penalised_loss(weights: np.ndarray) -> float:
        logits = design @ weights
        return np.logaddexp(0, logits).sum() - target @ logits + (pull * (weights - start) ** 2).sum() / 2

    def loss_gradient(weights: np.ndarray) -> np.ndarray:
        return design.T @ (sigmoid(design @ weights) - target) + pull * (weights - start)

    def loss_hessian(weights: np.ndarray) -> np.ndarray:
        prob = sigmoid(design @ weights)
        return (design * (prob * (1 - prob))[:, None]).T @ design + np.diag(pull)

    return minimize(
        penalised_loss, start, jac=loss_gradient, hess=loss_hessian, method="trust-exact", options={"gtol": 1e-6}
    ).x


def calibration_record(kind: str, calibrations: Mapping[str, Calibration]) -> dict:
    """decision.json's 'calibration': kind, and under heads each head's values by 'fold/subfold'."""
    return {"kind": kind, "heads": {key: calibration.values.tolist() for key, calibration in calibrations.items()}}


def read_calibrations(path: Path) -> dict[str, Calibration]:
    """Each head's calibration, by 'fold/subfold', from decision.json, which a user may have edited.

    Raises UsageError if it is missing, or if values would not give probabilities in the logits' order.
    """
    decision_record = read_json(path)
    if decision_record is None:
        raise UsageError(f"{path} is missing or damaged; it is made by: {STAGE3}")
    calibration = decision_record.get("calibration")
    if not _is_record(calibration):
        raise UsageError(
            f"{path}: 'calibration' needs a kind ({', '.join(SIGMOID_VALUES)}) and heads; "
            f"FORCE=1 makes it anew: {STAGE3}"
        )
    return {
        key: Calibration(calibration["kind"], _check_values(path, key, calibration["kind"], values))
        for key, values in calibration["heads"].items()
    }


def _is_record(calibration: object) -> bool:
    if not isinstance(calibration, dict):
        return False
    return str(calibration.get("kind")) in SIGMOID_VALUES and isinstance(calibration.get("heads"), dict)


def _check_values(path: Path, key: str, kind: str, values: object) -> np.ndarray:
    try:
        array = np.array(values, float)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if not (np.isfinite(array).all() and _IS_VALID[kind](array)):
        raise UsageError(
            f"{path}: 'calibration' of head {key} must be {_EXPECTED_FORM[kind]}; "
            f"mend it, or FORCE=1 makes it anew: {STAGE3}"
        )
    return array


def _is_rising(knots: np.ndarray) -> bool:
    if knots.ndim != 2 or len(knots) != 2:
        return False
    steps = np.diff(knots, axis=1)
    return bool((steps[0] > 0).all() and (steps[1] >= 0).all() and ((knots[1] > 0) & (knots[1] < 1)).all())


_IS_VALID = {
    "platt": lambda array: array.shape == (2,) and array[0] > 0,
    "temperature": lambda array: array.shape == (1,) and array[0] > 0,
    "isotonic": _is_rising,
}
_EXPECTED_FORM = {
    "platt": "two numbers, a slope above 0 and an intercept",
    "temperature": "one number above 0",
    "isotonic": "two lists as long as each other, rising logits and their probabilities, above 0 and below 1",
}
