"""Plain metrics of one sample, without interval: AUC, log-loss, and Dice in both of its meanings.

Trainings, validation and stage 3's choices use them; the metrics of the report, with intervals, are in ratios.py and
ranking.py. A metric that is undefined (one class only, no positives, no images) is None, never 0 or .5.
"""

import numpy as np

THIRDS = ("small", "middle", "large")


def roc_auc(labels: np.ndarray, probs: np.ndarray) -> float | None:
    """Area under the ROC curve of labels [n] of 0 or 1 and scores [n]; ties count half; None with one class only.

    By the rank sum of Mann and Whitney (Hanley and McNeil, Radiology 1982), so that nothing is interpolated.
    """
    labels, probs = _check_pair(labels, probs)
    positive = labels > 0.5
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    _, group, size = np.unique(probs, return_inverse=True, return_counts=True)
    rank = np.cumsum(size) - (size - 1) / 2
    above = rank[group][positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def roc_auc_within_groups(labels: np.ndarray, probs: np.ndarray, group: np.ndarray) -> float | None:
    """AUC over all pairs of a positive and a negative of the same group [n], such as one model; None without any.

    Scores of different models are not ranked against each other: where each was fitted without the images that it
    scores, their offsets run against the images' labels, and a pooled AUC comes out too low (Parker et al., BMC
    Bioinformatics 2007).
    """
    labels, probs = _check_pair(labels, probs)
    group_rows = [np.asarray(group) == key for key in np.unique(group)]
    pairs = np.array(
        [(labels[in_group] > 0.5).sum() * (labels[in_group] < 0.5).sum() for in_group in group_rows], float
    )
    if not pairs.sum():
        return None
    return float(
        np.average([roc_auc(labels[in_group], probs[in_group]) or 0.0 for in_group in group_rows], weights=pairs)
    )


def log_loss(labels: np.ndarray, probs: np.ndarray) -> float | None:
    """Mean negative log-likelihood in nats of labels [n] of 0 or 1 under probabilities [n]; None for no rows."""
    labels, probs = _check_pair(labels, probs)
    if not len(labels):
        return None
    probs = np.clip(probs, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(labels > 0.5, np.log(probs), np.log1p(-probs))))


def dice_of_masks(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Dice of two masks of one shape (any non-zero is inside), 0 to 1; empty against empty is 1.

    Raises ValueError where the shapes differ.
    """
    truth, predicted = np.asarray(truth) != 0, np.asarray(predicted) != 0
    if truth.shape != predicted.shape:
        raise ValueError(f"masks of shapes {truth.shape} and {predicted.shape}")
    return float(dice_of_areas(truth.sum(), predicted.sum(), (truth & predicted).sum()))


def dice_of_areas(truth_area: np.ndarray, predicted_area: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """Dice of images from their pixel counts, elementwise [...] -> [...]; empty against empty is 1 (Kaggle's rule)."""
    truth_area, predicted_area, overlap = (
        np.asarray(area, np.float64) for area in (truth_area, predicted_area, overlap)
    )
    total = truth_area + predicted_area
    return np.where(total == 0, 1.0, 2 * overlap / np.maximum(total, 1))


def kaggle_dice(dices: np.ndarray) -> float | None:
    """Mean over all images of their Dice [n], as the competition scores; None for no images.

    Most true masks are empty, and an empty prediction of one scores 1: compare it with `empty_submission_dice`.
    """
    dices = np.asarray(dices, np.float64)
    return float(dices.mean()) if len(dices) else None


def positives_dice(labels: np.ndarray, dices: np.ndarray) -> float | None:
    """Mean of the Dice [n] of the images that have a lesion (label 1 of labels [n]); None where there is none."""
    labels, dices = _check_pair(labels, dices)
    return kaggle_dice(dices[labels > 0.5])


def empty_submission_dice(labels: np.ndarray) -> float | None:
    """Kaggle Dice of a submission of empty masks: the share of negatives in labels [n]; None for no images."""
    labels = np.asarray(labels, np.float64)
    return float(np.mean(labels < 0.5)) if len(labels) else None


def size_thirds(areas: np.ndarray) -> np.ndarray:
    """Third by lesion size of each image, int [n]: 0, 1, 2 (THIRDS) among the images with area > 0, else -1.

    areas [n]: all in the same unit, for example the share of the image. The thirds are as equal in number as possible;
    images of equal area are ordered as they come.
    """
    areas = np.asarray(areas, np.float64)
    positive = np.flatnonzero(areas > 0)
    thirds = np.full(len(areas), -1)
    order = positive[np.argsort(areas[positive], kind="stable")]
    thirds[order] = np.arange(len(order)) * 3 // max(len(order), 1)
    return thirds


def format_metric(value: float | None, digits: int = 3) -> str:
    """A metric for a table: '.873', '1.000', '-.120', and '–' where it is undefined."""
    if value is None or not np.isfinite(value):
        return "–"
    text = f"{value:z.{digits}f}"  # z: what rounds to 0 has no sign
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def _check_pair(labels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, values = np.asarray(labels, np.float64), np.asarray(values, np.float64)
    if labels.shape != values.shape or labels.ndim != 1:
        raise ValueError(f"labels of shape {labels.shape}, values of shape {values.shape}")
    return labels, values
