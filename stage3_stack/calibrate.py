"""Platt scaling: from a head's logit to a probability that means what it says."""

import numpy as np

from stage3_stack.data import sigmoid

STEPS = 50
LEAST_SLOPE = 0.05  # a calibration never turns the order of images round
PRIOR = 1.0  # pull of the slope towards 1, in log-likelihood; felt with a handful of rows only


def platt(labels: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Slope and intercept with which sigmoid(slope * logit + intercept) fits labels [n] of 0 or 1.

    (1, 0) without rows of both classes. Newton's method on Platt's smoothed targets (Platt 1999;
    Lin, Lin and Weng 2007), so that separable rows give no infinite slope.
    """
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    if not positives or not negatives:
        return 1.0, 0.0
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.stack([logits, np.ones(len(logits))], axis=1)
    found = np.array([1.0, 0.0])
    for _ in range(STEPS):
        step = _newton(design, target, found)
        found = found - step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    if found[0] < LEAST_SLOPE:
        found = np.array([LEAST_SLOPE, _prior_logit(target) - LEAST_SLOPE * logits.mean()])
    return float(found[0]), float(found[1])


def _newton(design: np.ndarray, target: np.ndarray, found: np.ndarray) -> np.ndarray:
    prob = sigmoid(design @ found)
    gradient = design.T @ (prob - target) + [PRIOR * (found[0] - 1), 0.0]
    curvature = (design * (prob * (1 - prob))[:, None]).T @ design + np.diag([PRIOR, 1e-6])
    return np.linalg.solve(curvature, gradient)


def _prior_logit(target: np.ndarray) -> float:
    return float(np.log(target.mean() / (1 - target.mean())))
