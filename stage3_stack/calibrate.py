"""Calibration: from a head's logit to a probability that means what it says; kept in decision.json as plain arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxr.errors import UsageError
from cxr.files import read_json
from stage3_stack.config import STEP
from stage3_stack.data import sigmoid

LEAST_SLOPE = 0.05  # a calibration never turns the order of images round
PRIOR = 1.0  # pull of the slope towards 1, in log-likelihood; felt with a handful of rows only


class Scaling(NamedTuple):
    """A fitted calibration.

    values: platt [slope, intercept]; temperature [slope], which is 1 / temperature; isotonic [2, knots]: logits and
    their probabilities, between which it is linear and outside of which flat; without knots it is the sigmoid.
    """

    kind: str
    """As of `Config.calibration`"""
    values: np.ndarray

    def probs(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of logits [n]."""
        if self.kind == "isotonic":
            return np.interp(logits, *self.values) if self.values.size else sigmoid(logits)
        slope, intercept = (*self.values, 0.0)[:2]
        return sigmoid(slope * logits + intercept)


def fit(kind: str, labels: np.ndarray, logits: np.ndarray) -> Scaling:
    """The calibration of labels [n] of 0 or 1 and logits [n]; without rows of both classes it is the sigmoid."""
    if len(np.unique(labels)) < 2:
        return Scaling(kind, np.array(UNFITTED[kind]))
    fits = {"platt": platt, "temperature": temperature, "isotonic": isotonic}
    return Scaling(kind, fits[kind](labels, logits))


UNFITTED = {"platt": [1.0, 0.0], "temperature": [1.0], "isotonic": [[], []]}


def platt(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Slope and intercept, [2], with which sigmoid(slope * logit + intercept) fits labels [n] of both classes.

    On Platt's smoothed targets (Platt 1999; Lin, Lin and Weng 2007), so that separable rows give no infinite slope.
    """
    target = _smoothed(labels)
    found = _fitted(np.stack([logits, np.ones(len(logits))], axis=1), target)
    if found[0] >= LEAST_SLOPE:
        return found
    base = np.log(target.mean() / (1 - target.mean()))
    return np.array([LEAST_SLOPE, base - LEAST_SLOPE * np.mean(logits)])


def temperature(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The slope alone, [1]: 1 / temperature (Guo et al., ICML 2017), with platt's targets, pull and least slope."""
    return np.maximum(_fitted(np.asarray(logits, float)[:, None], _smoothed(labels)), LEAST_SLOPE)


def isotonic(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The rising steps that fit labels [n] best, [2, knots]: logits and probabilities, away from 0 and 1.

    scikit-learn's, of the rows and two more, after Laplace's rule: a positive at the lowest logit and a negative at
    the highest. So n negatives below the first positive get 1 / (n + 1), not 0. Rows of one step become ties.
    """
    from sklearn.isotonic import IsotonicRegression

    rows = np.concatenate([[np.min(logits)], logits, [np.max(logits)]])
    found = IsotonicRegression(out_of_bounds="clip").fit(rows, np.concatenate([[1.0], labels, [0.0]]))
    return np.stack([found.X_thresholds_, np.maximum.accumulate(found.y_thresholds_)])  # but for rounding they rise


def _smoothed(labels: np.ndarray) -> np.ndarray:
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    return np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _fitted(design: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights of the design's columns [n, c], the first of which is the logit's: the least log-loss and pull."""
    from scipy.optimize import minimize  # plain Newton steps ran in circles on separable rows turned round

    start, pull = np.eye(design.shape[1])[0], np.array([PRIOR, 1e-6])[: design.shape[1]]

    def loss(found: np.ndarray) -> float:
        logits = design @ found
        return np.logaddexp(0, logits).sum() - target @ logits + (pull * (found - start) ** 2).sum() / 2

    def gradient(found: np.ndarray) -> np.ndarray:
        return design.T @ (sigmoid(design @ found) - target) + pull * (found - start)

    def curvature(found: np.ndarray) -> np.ndarray:
        prob = sigmoid(design @ found)
        return (design * (prob * (1 - prob))[:, None]).T @ design + np.diag(pull)

    return minimize(loss, start, jac=gradient, hess=curvature, method="trust-exact", options={"gtol": 1e-6}).x


def record(kind: str, scalings: Mapping[str, Scaling]) -> dict:
    """What decision.json holds under 'calibration': the kind, and each head's values by 'fold/subfold'."""
    return {"kind": kind, "heads": {key: scaling.values.tolist() for key, scaling in scalings.items()}}


def read(path: Path) -> dict[str, Scaling]:
    """Each head's calibration, by 'fold/subfold', from decision.json, which a user may have edited.

    Raises UsageError where it is missing, or where values would give no probabilities in the logits' order.
    """
    whole = read_json(path)
    if whole is None:
        raise UsageError(f"{path} is missing or damaged; it is made by: {STEP}")
    found = whole.get("calibration")
    if not (isinstance(found, dict) and str(found.get("kind")) in UNFITTED and isinstance(found.get("heads"), dict)):
        raise UsageError(
            f"{path}: 'calibration' needs a kind ({', '.join(UNFITTED)}) and heads; FORCE=1 makes it anew: {STEP}"
        )
    return {key: Scaling(found["kind"], _checked(path, key, found["kind"], v)) for key, v in found["heads"].items()}


def _checked(path: Path, key: str, kind: str, values: object) -> np.ndarray:
    try:
        found = np.array(values, float)
    except (TypeError, ValueError, OverflowError):
        found = np.empty(0)
    if not (np.isfinite(found).all() and _RIGHT[kind](found)):
        raise UsageError(
            f"{path}: 'calibration' of head {key} must be {_MEANT[kind]}; mend it, or FORCE=1 makes it anew: {STEP}"
        )
    return found


def _rising(knots: np.ndarray) -> bool:
    if knots.ndim != 2 or len(knots) != 2:
        return False
    steps = np.diff(knots, axis=1)
    return bool((steps[0] > 0).all() and (steps[1] >= 0).all() and ((knots[1] > 0) & (knots[1] < 1)).all())


_RIGHT = {
    "platt": lambda found: found.shape == (2,) and found[0] > 0,
    "temperature": lambda found: found.shape == (1,) and found[0] > 0,
    "isotonic": _rising,
}
_MEANT = {
    "platt": "two numbers, a slope above 0 and an intercept",
    "temperature": "one number above 0",
    "isotonic": "two lists as long as each other, rising logits and their probabilities, above 0 and below 1",
}
