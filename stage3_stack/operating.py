"""The operating point: the gate on the probability that has the specificity, sensitivity or F-score asked for."""

from typing import NamedTuple

import numpy as np

from stage3_stack.config import OperatingPointConfig

MIDDLE = 0.5  # the gate on a calibrated probability where nothing is there to choose by


class Point(NamedTuple):
    """A gate, and what is to be said of it; nothing where it is just what was asked for."""

    gate: float
    said: str | None = None


def pick(labels: np.ndarray, prob: np.ndarray, config: OperatingPointConfig) -> Point:
    """The gate for labels [n] of 0 or 1 and probabilities [n], midway between two of these.

    Conservative: on these images at least the specificity or sensitivity that is asked for.
    """
    name, asked = next(iter(config.asked.items()))
    needed = "without" if name == "specificity" else "with"
    if not (labels == (needed == "with")).any():
        return Point(MIDDLE, f"no image {needed} a pneumothorax to choose the gate by, so it is {MIDDLE}")
    gates = _gates(np.unique(prob))
    negative, positive = (np.sort(prob[labels == label]) for label in (0, 1))
    right, found = np.searchsorted(negative, gates), len(positive) - np.searchsorted(positive, gates)
    if name == "f_beta":
        return Point(float(gates[np.argmax(_f_beta(found, len(positive), len(negative) - right, asked))]))
    enough = np.flatnonzero(right / len(negative) >= asked if name == "specificity" else found / len(positive) >= asked)
    if not len(enough):
        return Point(float(gates[-1]), f"specificity {asked} is out of reach: {right[-1] / len(negative):.3f} at most")
    k = enough[0 if name == "specificity" else -1]
    return Point(float(gates[k]), _bare(name, asked, right[k], found[k], len(negative)))


def _gates(values: np.ndarray) -> np.ndarray:
    """All gates that differ for probabilities of these values (ascending): 0, between two, and above all if below 1."""
    values = np.append(values, [1.0] if values[-1] < 1 else [])
    middle = (values[:-1] + values[1:]) / 2
    return np.concatenate([[0.0], np.where(middle > values[:-1], middle, values[1:])])


def _f_beta(found: np.ndarray, positives: int, wrong: np.ndarray, beta: float) -> np.ndarray:
    """F-score of each gate that finds so many of the positives and calls so many negatives wrongly."""
    return (1 + beta**2) * found / (beta**2 * positives + found + wrong)


def _bare(name: str, asked: float, right: int, found: int, negatives: int) -> str | None:
    if name == "specificity" and not found:
        return f"specificity {asked} is reached only by calling every image negative"
    if name == "sensitivity" and negatives and not right:
        return f"sensitivity {asked} is reached only by calling every image positive"
    return None


def reached(labels: np.ndarray, positive: np.ndarray, beta: float | None = None) -> dict[str, float | None]:
    """Sensitivity, specificity, and with beta the F-score, of calls [n] of labels [n]; None where undefined."""
    labels = labels == 1
    found, wrong = int((positive & labels).sum()), int((positive & ~labels).sum())
    negatives = int((~labels).sum())
    shares = {"sensitivity": _share(found, labels.sum()), "specificity": _share(negatives - wrong, negatives)}
    if beta is not None:
        shares["f_beta"] = float(_f_beta(found, labels.sum(), wrong, beta)) if labels.any() else None
    return shares


def _share(count: int, total: int) -> float | None:
    return float(count / total) if total else None
