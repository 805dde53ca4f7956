"""Metrics of how the images are ranked, in every resample at once: AUC, average precision, points of the ROC curve.

scikit-learn computes these for one sample (tests compare ours with it) and would sort 2,000 times. Here the images are
sorted once; a resample is a row of weights, and the cumulative sums of the weights are its ROC curve.

To add a metric of the ranking, compute it in `_compute_block_metrics` and name it in metric_list.RANKING_METRICS;
another point of the ROC curve is one more entry of SPECIFICITIES or SENSITIVITIES. CONTRIBUTING.md ('Add a metric')
says what else it needs.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evaluation.resampling import split_into_blocks

SPECIFICITIES = {"sensitivity_at_specificity_93": 0.93, "sensitivity_at_specificity_95": 0.95}
"""Metric -> the specificity at which it gives the sensitivity."""
SENSITIVITIES = {"specificity_at_sensitivity_95": 0.95}
"""Metric -> the sensitivity at which it gives the specificity."""
SHARE_TOLERANCE = 1e-9  # of shares of weights, so that 7 of 100 equal .07 whatever the rounding of 1 - .93


class CurveWeights(NamedTuple):
    """How often each image is in each resample; the cumulative weights, from low to high score, begin with 0."""

    positives: np.ndarray
    """Weights of the positives [r, p]."""
    cumulative_positives: np.ndarray
    """[r, 1 + p]."""
    cumulative_negatives: np.ndarray
    """[r, 1 + m]."""


@dataclass(frozen=True)
class RankedScores:
    """Scores of the positives and of the negatives, each sorted from low to high, with the images' patients."""

    positive_scores: np.ndarray
    """Scores of the positives [p]."""
    negative_scores: np.ndarray
    """Scores of the negatives [m]."""
    positive_patient: np.ndarray
    """Number of the patient of each positive, int [p]."""
    negative_patient: np.ndarray
    """Number of the patient of each negative, int [m]."""

    @classmethod
    def from_labels(cls, labels: np.ndarray, probs: np.ndarray, patient: np.ndarray) -> "RankedScores":
        """From labels [n] of 0 or 1, scores `probs` [n], and the number of each image's `patient`, int [n]."""
        order = np.argsort(probs, kind="stable")
        positives, negatives = order[labels[order] > 0.5], order[labels[order] <= 0.5]
        return cls(probs[positives], probs[negatives], patient[positives], patient[negatives])

    def cumulate_weights(self, counts: np.ndarray) -> CurveWeights:
        """The images' weights in r resamples; counts: how often each patient is in each of them, [r, patients]."""
        positive_weights, negative_weights = (
            np.take(counts, patient, axis=1) for patient in (self.positive_patient, self.negative_patient)
        )
        return CurveWeights(positive_weights, _cumulative_sums(positive_weights), _cumulative_sums(negative_weights))


def compute_curve_metrics(
    labels: np.ndarray, probs: np.ndarray, patient: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Every metric of the ROC and the precision-recall curve in every resample.

    labels: 0 or 1 of each image, [n]
    probs: score of each image, [n]
    patient: number of each image's patient, int [n], 0 .. patients - 1
    counts: how often each patient is in each resample, [r, patients] (`resampling.draw_resamples`)

    Returns metric -> [r], nan where a resample has one class only: auc_pooled, average_precision, and the keys of
    SPECIFICITIES and SENSITIVITIES.
    """
    ranking = RankedScores.from_labels(labels, probs, patient)
    block_metrics = [
        _compute_block_metrics(ranking, ranking.cumulate_weights(counts[block]))
        for block in split_into_blocks(counts, len(labels))
    ]
    return {name: np.concatenate([metrics[name] for metrics in block_metrics]) for name in block_metrics[0]}


def compute_mean_fold_auc(
    labels: np.ndarray, probs: np.ndarray, fold: np.ndarray, head: np.ndarray, patient: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Mean over folds of each fold's AUC in every resample, [r]; only scores of the same head are compared.

    labels: 0 or 1 of each image, [n]
    probs: score of each image, [n]
    fold: fold of each image, [n]
    head: number of the stacking head that scored each image, [n]
    patient: number of each image's patient, int [n], 0 .. patients - 1
    counts: how often each patient is in each resample, [r, patients] (`resampling.draw_resamples`)

    A fold's AUC is over all its pairs of a positive and a negative that the same head scored
    (`evaluation.metrics.roc_auc_within_groups`). A fold without such a pair is left out; nan where no fold has one.
    """
    fold_aucs = []
    for fold_number in np.unique(fold):
        pairs, wins = np.zeros(len(counts)), np.zeros(len(counts))
        for head_number in np.unique(head[fold == fold_number]):
            rows = (fold == fold_number) & (head == head_number)
            ranking = RankedScores.from_labels(labels[rows], probs[rows], patient[rows])
            head_wins, head_pairs = _count_wins(ranking, counts)
            wins, pairs = wins + head_wins, pairs + head_pairs
        fold_aucs.append(_divide_or_nan(wins, pairs))
    fold_aucs = np.array(fold_aucs)
    is_defined = np.isfinite(fold_aucs)
    return _divide_or_nan(np.where(is_defined, fold_aucs, 0).sum(axis=0), is_defined.sum(axis=0))


def _count_wins(ranking: RankedScores, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs in which the positive scores higher (ties count half), and all pairs, in every resample [r]."""
    block_counts = [
        _count_block_wins(ranking, ranking.cumulate_weights(counts[block]))
        for block in split_into_blocks(counts, len(ranking.positive_patient) + 1)
    ]
    wins, pairs = zip(*block_counts, strict=True)
    return np.concatenate(wins), np.concatenate(pairs)


def _count_block_wins(ranking: RankedScores, weights: CurveWeights) -> tuple[np.ndarray, np.ndarray]:
    """What `_count_wins` returns, of one block of resamples."""
    first_not_below, first_above = (
        np.searchsorted(ranking.negative_scores, ranking.positive_scores, side) for side in ("left", "right")
    )
    below = np.take(weights.cumulative_negatives, first_not_below, axis=1)
    not_above = np.take(weights.cumulative_negatives, first_above, axis=1)
    wins = ((below + not_above) * weights.positives).sum(axis=1) / 2
    return wins, weights.cumulative_positives[:, -1].astype(float) * weights.cumulative_negatives[:, -1]


def _compute_block_metrics(ranking: RankedScores, weights: CurveWeights) -> dict[str, np.ndarray]:
    """What `compute_curve_metrics` returns, of one block of resamples."""
    return {
        "auc_pooled": _divide_or_nan(*_count_block_wins(ranking, weights)),
        "average_precision": _average_precision(ranking, weights),
        **{name: _sensitivity_at(ranking, weights, specificity) for name, specificity in SPECIFICITIES.items()},
        **{name: _specificity_at(ranking, weights, sensitivity) for name, sensitivity in SENSITIVITIES.items()},
    }


def _average_precision(ranking: RankedScores, weights: CurveWeights) -> np.ndarray:
    """Mean over the positives of the precision at their score, [r]; equals scikit-learn's average_precision_score."""
    cumulative_positives, cumulative_negatives = weights.cumulative_positives, weights.cumulative_negatives
    first_positive = np.searchsorted(ranking.positive_scores, ranking.positive_scores, "left")
    first_negative = np.searchsorted(ranking.negative_scores, ranking.positive_scores, "left")
    true_positives = cumulative_positives[:, -1:] - np.take(cumulative_positives, first_positive, axis=1)
    false_positives = cumulative_negatives[:, -1:] - np.take(cumulative_negatives, first_negative, axis=1)
    precision = true_positives / np.maximum(true_positives + false_positives, 1)
    mean_precision = _divide_or_nan((precision * weights.positives).sum(axis=1), cumulative_positives[:, -1])
    return np.where(cumulative_negatives[:, -1] > 0, mean_precision, np.nan)


def _sensitivity_at(ranking: RankedScores, weights: CurveWeights, specificity: float) -> np.ndarray:
    """Sensitivity [r] at the lowest threshold with at least this specificity: share of the positives above it."""
    positives, negatives = weights.cumulative_positives, weights.cumulative_negatives
    if not len(ranking.negative_scores) or not len(ranking.positive_scores):
        return np.full(len(positives), np.nan)
    total = negatives[:, -1:]
    threshold_negative = (negatives[:, :-1] < specificity * total - SHARE_TOLERANCE * total).sum(axis=1) - 1
    not_above = np.searchsorted(ranking.positive_scores, ranking.negative_scores, "right")
    missed = not_above[np.maximum(threshold_negative, 0)]
    share = 1 - _divide_or_nan(np.take_along_axis(positives, missed[:, None], axis=1)[:, 0], positives[:, -1])
    return np.where(negatives[:, -1] > 0, share, np.nan)


def _specificity_at(ranking: RankedScores, weights: CurveWeights, sensitivity: float) -> np.ndarray:
    """Specificity [r] at the highest threshold with at least this sensitivity: share of the negatives below it."""
    positives, negatives = weights.cumulative_positives, weights.cumulative_negatives
    if not len(ranking.negative_scores) or not len(ranking.positive_scores):
        return np.full(len(positives), np.nan)
    total = positives[:, -1:]
    threshold_positive = (positives[:, 1:] <= (1 - sensitivity) * total + SHARE_TOLERANCE * total).sum(axis=1)
    below = np.searchsorted(ranking.negative_scores, ranking.positive_scores, "left")
    rejected = below[np.minimum(threshold_positive, len(ranking.positive_scores) - 1)]
    share = _divide_or_nan(np.take_along_axis(negatives, rejected[:, None], axis=1)[:, 0], negatives[:, -1])
    return np.where(positives[:, -1] > 0, share, np.nan)


def _cumulative_sums(weights: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, ... columns, int32 [r, 1 + columns]."""
    sums = np.zeros((len(weights), 1 + weights.shape[1]), np.int32)  # 14 times as fast as floats
    sums[:, 1:] = weights
    return np.cumsum(sums, axis=1, out=sums)


def _divide_or_nan(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator, nan where denominator is 0."""
    return np.divide(
        numerator, denominator, out=np.full(np.shape(denominator), np.nan), where=np.asarray(denominator) > 0
    )
