"""The operating point: the gate on the probability that has the specificity, sensitivity or F-score asked for."""

from typing import NamedTuple

import numpy as np

from stage3_stack.config import OperatingPointConfig

DEFAULT_THRESHOLD = 0.5  # the gate on a calibrated probability where nothing is there to choose by


class OperatingPoint(NamedTuple):
    """A gate, and what is to be said of it; nothing where it is just what was asked for."""

    probability_threshold: float
    problem: str | None = None


def pick_operating_point(labels: np.ndarray, prob: np.ndarray, settings: OperatingPointConfig) -> OperatingPoint:
    """The gate for labels [n] of 0 or 1 and probabilities [n], midway between two of these.

    Conservative: on these images at least the specificity or sensitivity that is asked for.
    """
    target_name, target_value = next(iter(settings.target.items()))
    with_or_without = "without" if target_name == "specificity" else "with"
    if not (labels == (with_or_without == "with")).any():
        return OperatingPoint(
            DEFAULT_THRESHOLD,
            f"no image {with_or_without} a pneumothorax to choose the gate by, so it is {DEFAULT_THRESHOLD}",
        )
    thresholds = _candidate_thresholds(np.unique(prob))
    negative_probs, positive_probs = (np.sort(prob[labels == label]) for label in (0, 1))
    true_negatives, true_positives = (
        np.searchsorted(negative_probs, thresholds),
        len(positive_probs) - np.searchsorted(positive_probs, thresholds),
    )
    if target_name == "f_beta":
        return OperatingPoint(
            float(
                thresholds[
                    np.argmax(
                        _f_beta(true_positives, len(positive_probs), len(negative_probs) - true_negatives, target_value)
                    )
                ]
            )
        )
    reaching = np.flatnonzero(
        true_negatives / len(negative_probs) >= target_value
        if target_name == "specificity"
        else true_positives / len(positive_probs) >= target_value
    )
    if not len(reaching):
        return OperatingPoint(
            float(thresholds[-1]),
            f"specificity {target_value} is out of reach: {true_negatives[-1] / len(negative_probs):.3f} at most",
        )
    k = reaching[0 if target_name == "specificity" else -1]
    return OperatingPoint(
        float(thresholds[k]),
        _describe_trivial_point(target_name, target_value, true_negatives[k], true_positives[k], len(negative_probs)),
    )


def _candidate_thresholds(values: np.ndarray) -> np.ndarray:
    """All gates that differ for probabilities of these values (ascending): 0, between two, and above all if below 1."""
    values = np.append(values, [1.0] if values[-1] < 1 else [])
    midpoints = (values[:-1] + values[1:]) / 2
    return np.concatenate([[0.0], np.where(midpoints > values[:-1], midpoints, values[1:])])


def _f_beta(true_positives: np.ndarray, positive_count: int, false_positives: np.ndarray, beta: float) -> np.ndarray:
    """F-score of each gate that finds so many of the positives and calls so many negatives wrongly."""
    return (1 + beta**2) * true_positives / (beta**2 * positive_count + true_positives + false_positives)


def _describe_trivial_point(
    target_name: str, target_value: float, true_negatives: int, true_positives: int, negative_count: int
) -> str | None:
    if target_name == "specificity" and not true_positives:
        return f"specificity {target_value} is reached only by calling every image negative"
    if target_name == "sensitivity" and negative_count and not true_negatives:
        return f"sensitivity {target_value} is reached only by calling every image positive"
    return None


def compute_rates(
    labels: np.ndarray, predicted_positive: np.ndarray, beta: float | None = None
) -> dict[str, float | None]:
    """Sensitivity, specificity, and with beta the F-score, of calls [n] of labels [n]; None where undefined."""
    labels = labels == 1
    true_positives, false_positives = (
        int((predicted_positive & labels).sum()),
        int((predicted_positive & ~labels).sum()),
    )
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
