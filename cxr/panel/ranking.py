"""What a ranking of the images is worth, in every resample at once: AUC, average precision, points of the ROC curve.

scikit-learn has these for one sample (the tests hold ours to it); it would sort 2,000 times. Here the images are
sorted once, and a resample is a row of weights, whose cumulative sums are its ROC curve.
"""

from dataclasses import dataclass

import numpy as np

from cxr.panel.resample import blocks

SPECIFICITIES = {"sensitivity_at_specificity_93": 0.93, "sensitivity_at_specificity_95": 0.95}
SENSITIVITIES = {"specificity_at_sensitivity_95": 0.95}
EXACT = 1e-9  # shares of weights are compared so: 7 of 100 are .07, whatever the rounding of 1 - .93


@dataclass(frozen=True)
class Order:
    """Positives and negatives, each from low to high score, and where the ones stand among the others."""

    positive: np.ndarray
    """Scores of the positives [p]."""
    negative: np.ndarray
    """Scores of the negatives [m]."""
    positive_patient: np.ndarray
    negative_patient: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, probs: np.ndarray, patient: np.ndarray) -> "Order":
        """From labels [n] of 0 or 1, scores [n] and the images' patients [n]."""
        order = np.argsort(probs, kind="stable")
        rows, others = order[labels[order] > 0.5], order[labels[order] <= 0.5]
        return cls(probs[rows], probs[others], patient[rows], patient[others])

    def sums(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights of the positives [r, p], and the cumulative ones, from 0 on, of both [r, 1 + p], [r, 1 + m]."""
        plus, minus = (np.take(counts, of, axis=1) for of in (self.positive_patient, self.negative_patient))
        return plus, _cumulative(plus), _cumulative(minus)


def curve(labels: np.ndarray, probs: np.ndarray, patient: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Every figure of the ROC and the precision-recall curve in every resample [r]; nan with one class only.

    counts: as of `resample.draw`. Keys: auc_pooled, average_precision, SPECIFICITIES, SENSITIVITIES.
    """
    order = Order.of(labels, probs, patient)
    parts = [_figures(order, *order.sums(counts[block])) for block in blocks(counts, len(labels))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def auc_of_folds(
    labels: np.ndarray, probs: np.ndarray, fold: np.ndarray, head: np.ndarray, patient: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Mean over folds of each fold's AUC in every resample [r]; only scores of one head are compared.

    fold, head [n]: a fold's AUC is of all its pairs of a positive and a negative that the same head scored
    (`cxr.metrics.auc_within`). A fold without such a pair is left out; nan where none has one.
    """
    folds = []
    for key in np.unique(fold):
        pairs, wins = np.zeros(len(counts)), np.zeros(len(counts))
        for one in np.unique(head[fold == key]):
            rows = (fold == key) & (head == one)
            more = _wins(Order.of(labels[rows], probs[rows], patient[rows]), counts)
            wins, pairs = wins + more[0], pairs + more[1]
        folds.append(_divided(wins, pairs))
    folds = np.array(folds)
    seen = np.isfinite(folds)
    return _divided(np.where(seen, folds, 0).sum(axis=0), seen.sum(axis=0))


def _wins(order: Order, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs in which the positive scores higher (ties count half), and all pairs, in every resample [r]."""
    parts = [_won(order, *order.sums(counts[block])) for block in blocks(counts, len(order.positive_patient) + 1)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _won(order: Order, plus: np.ndarray, true: np.ndarray, false: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    below = np.take(false, np.searchsorted(order.negative, order.positive, "left"), axis=1)
    upto = np.take(false, np.searchsorted(order.negative, order.positive, "right"), axis=1)
    return ((below + upto) * plus).sum(axis=1) / 2, true[:, -1].astype(float) * false[:, -1]


def _figures(order: Order, plus: np.ndarray, true: np.ndarray, false: np.ndarray) -> dict[str, np.ndarray]:
    found = {"auc_pooled": _divided(*_won(order, plus, true, false))}
    found["average_precision"] = _average_precision(order, plus, true, false)
    found |= {name: _sensitivity_at(order, true, false, value) for name, value in SPECIFICITIES.items()}
    return found | {name: _specificity_at(order, true, false, value) for name, value in SENSITIVITIES.items()}


def _average_precision(order: Order, plus: np.ndarray, true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Mean over the positives of the precision at their score."""
    hits = true[:, -1:] - np.take(true, np.searchsorted(order.positive, order.positive, "left"), axis=1)
    errors = false[:, -1:] - np.take(false, np.searchsorted(order.negative, order.positive, "left"), axis=1)
    precision = hits / np.maximum(hits + errors, 1)
    return np.where(false[:, -1] > 0, _divided((precision * plus).sum(axis=1), true[:, -1]), np.nan)


def _sensitivity_at(order: Order, true: np.ndarray, false: np.ndarray, specificity: float) -> np.ndarray:
    """Share of the positives above the highest negative that must not pass."""
    if not len(order.negative) or not len(order.positive):
        return np.full(len(true), np.nan)
    total = false[:, -1:]
    barred = (false[:, :-1] < specificity * total - EXACT * total).sum(axis=1) - 1
    upto = np.searchsorted(order.positive, order.negative, "right")[np.maximum(barred, 0)]
    share = 1 - _divided(np.take_along_axis(true, upto[:, None], axis=1)[:, 0], true[:, -1])
    return np.where(false[:, -1] > 0, share, np.nan)


def _specificity_at(order: Order, true: np.ndarray, false: np.ndarray, sensitivity: float) -> np.ndarray:
    """Share of the negatives below the lowest positive that must pass."""
    if not len(order.negative) or not len(order.positive):
        return np.full(len(true), np.nan)
    total = true[:, -1:]
    missed = (true[:, 1:] <= (1 - sensitivity) * total + EXACT * total).sum(axis=1)
    below = np.searchsorted(order.negative, order.positive, "left")[np.minimum(missed, len(order.positive) - 1)]
    share = _divided(np.take_along_axis(false, below[:, None], axis=1)[:, 0], false[:, -1])
    return np.where(true[:, -1] > 0, share, np.nan)


def _cumulative(weights: np.ndarray) -> np.ndarray:
    sums = np.zeros((len(weights), 1 + weights.shape[1]), np.int32)  # 14 times as fast as floats
    sums[:, 1:] = weights
    return np.cumsum(sums, axis=1, out=sums)


def _divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, nan where whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
