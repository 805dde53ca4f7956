"""The operating point: the probability threshold with a given specificity or sensitivity, or the best F-score."""

from typing import NamedTuple

import numpy as np

from stage3_stack.config import OperatingPointConfig

DEFAULT_THRESHOLD = 0.5  # of a calibrated probability, where there are no images to choose by


class OperatingPoint(NamedTuple):
    """A probability threshold, and why it misses its target; None if it does not."""

    probability_threshold: float
    problem: str | None = None


def pick_operating_point(labels: np.ndarray, prob: np.ndarray, settings: OperatingPointConfig) -> OperatingPoint:
    """The threshold for labels [n] of 0 or 1 and probabilities [n], midway between two of these.

    settings: its target, one of specificity, sensitivity and f_beta. The threshold is conservative: on these images the
    specificity or sensitivity is at least the target.
    """
    target_name, target_value = next(iter(settings.target.items()))
    needed_class = "without" if target_name == "specificity" else "with"
    if not (labels == (needed_class == "with")).any():
        problem = f"no image {needed_class} a pneumothorax to choose the threshold by, so it is {DEFAULT_THRESHOLD}"
        return OperatingPoint(DEFAULT_THRESHOLD, problem)
    counts = _count_outcomes(labels, prob)
    if target_name == "f_beta":
        f_scores = _f_beta(counts.true_positives, counts.positives, counts.false_positives, target_value)
        return OperatingPoint(float(counts.thresholds[np.argmax(f_scores)]))
    return _reach_target(counts, target_name, target_value)


class _Outcomes(NamedTuple):
    """What each of several thresholds [t], ascending, makes of the same images."""

    thresholds: np.ndarray
    true_positives: np.ndarray
    true_negatives: np.ndarray
    positives: int
    negatives: int

    @property
    def false_positives(self) -> np.ndarray:
        """[t]"""
        return self.negatives - self.true_negatives


def _count_outcomes(labels: np.ndarray, prob: np.ndarray) -> _Outcomes:
    thresholds = _candidate_thresholds(np.unique(prob))
    negative_probs, positive_probs = (np.sort(prob[labels == label]) for label in (0, 1))
    true_positives = len(positive_probs) - np.searchsorted(positive_probs, thresholds)
    true_negatives = np.searchsorted(negative_probs, thresholds)
    return _Outcomes(thresholds, true_positives, true_negatives, len(positive_probs), len(negative_probs))


def _reach_target(counts: _Outcomes, target_name: str, target_value: float) -> OperatingPoint:
    """The lowest threshold with at least this specificity, or the highest with at least this sensitivity."""
    if target_name == "sensitivity":
        k = np.flatnonzero(counts.true_positives / counts.positives >= target_value)[-1]  # threshold 0 has all
    else:
        specificity = counts.true_negatives / counts.negatives
        if specificity[-1] < target_value:
            problem = f"specificity {target_value} is out of reach: {specificity[-1]:.3f} at most"
            return OperatingPoint(float(counts.thresholds[-1]), problem)
        k = np.flatnonzero(specificity >= target_value)[0]
    return OperatingPoint(float(counts.thresholds[k]), _describe_trivial_point(counts, k, target_name, target_value))


def _candidate_thresholds(values: np.ndarray) -> np.ndarray:
    """All thresholds that differ for these probabilities, which are ascending and distinct.

    They are 0, the midpoints between neighbours and, if the highest probability is below 1, one above it.
    """
    values = np.append(values, [1.0] if values[-1] < 1 else [])
    midpoints = (values[:-1] + values[1:]) / 2
    return np.concatenate([[0.0], np.where(midpoints > values[:-1], midpoints, values[1:])])


def _f_beta(true_positives: np.ndarray, positive_count: int, false_positives: np.ndarray, beta: float) -> np.ndarray:
    """F-score with recall weighing beta times as much as precision (van Rijsbergen, Information Retrieval, 1979)."""
    return (1 + beta**2) * true_positives / (beta**2 * positive_count + true_positives + false_positives)


def _describe_trivial_point(counts: _Outcomes, k: int, target_name: str, target_value: float) -> str | None:
    """Why the k-th threshold, which reaches the target, is of no use; None if it is."""
    if target_name == "specificity" and not counts.true_positives[k]:
        return f"specificity {target_value} is reached only by calling every image negative"
    if target_name == "sensitivity" and counts.negatives and not counts.true_negatives[k]:
        return f"sensitivity {target_value} is reached only by calling every image positive"
    return None


def compute_rates(
    labels: np.ndarray, predicted_positive: np.ndarray, beta: float | None = None
) -> dict[str, float | None]:
    """sensitivity, specificity and, with beta, f_beta, of predictions, bool [n], of labels [n]; None if undefined."""
    labels = labels == 1
    true_positives, false_positives = (int((predicted_positive & rows).sum()) for rows in (labels, ~labels))
    negative_count = int((~labels).sum())
    rates = {
        "sensitivity": _ratio_or_none(true_positives, labels.sum()),
        "specificity": _ratio_or_none(negative_count - false_positives, negative_count),
    }
    if beta is not None:
        rates["f_beta"] = float(_f_beta(true_positives, labels.sum(), false_positives, beta)) if labels.any() else None
    return rates


def _ratio_or_none(count: int, total: int) -> float | None:
    return float(count / total) if total else None
