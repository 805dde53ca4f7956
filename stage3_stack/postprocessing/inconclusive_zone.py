"""The inconclusive zone: probabilities that are called neither negative nor positive (reyvaz, 2020)."""

from typing import NamedTuple

import numpy as np

from stage3_stack.config import ZoneConfig


class Zone(NamedTuple):
    """Below low an image is called negative, above high positive; between them, both included, neither."""

    low: float
    high: float


ALL_INCONCLUSIVE = Zone(0.0, 1.0)
"""Everything is inconclusive: the accuracy that was asked for cannot be reached."""


def find_zone(labels: np.ndarray, probs: np.ndarray, settings: ZoneConfig) -> Zone:
    """The fixed zone, or the narrowest one (by images set aside) with the accuracy asked for on the rest.

    labels [n] of 0 or 1, probs [n]. Exact: with b images called negative and a positive, the right ones must be
    at least accuracy * (b + a), which is a sum of a term of b and one of a.
    """
    if settings.accuracy is None:
        return Zone(settings.low, settings.high)
    order = np.argsort(probs, kind="stable")
    probs, labels = probs[order], labels[order]
    is_boundary = np.concatenate([[True], probs[1:] > probs[:-1], [True]]) if len(probs) else np.ones(1, bool)
    negative_surplus = _accuracy_surplus(labels == 0, settings.accuracy)
    positive_surplus = _accuracy_surplus(labels[::-1] == 1, settings.accuracy)
    negative_surplus[~is_boundary], positive_surplus[~is_boundary[::-1]] = (
        -np.inf,
        -np.inf,
    )  # equal probabilities are called the same
    called_counts = [
        _count_called(negative_surplus[b], positive_surplus[: len(probs) - b + 1], b) for b in range(len(probs) + 1)
    ]
    b = int(np.argmax([number for number, _ in called_counts]))
    return _zone_between(probs, b, called_counts[b][1]) if called_counts[b][0] > 0 else ALL_INCONCLUSIVE


def _accuracy_surplus(is_correct: np.ndarray, accuracy: float) -> np.ndarray:
    """Right calls beyond those needed, among the first 0, 1, .. n images."""
    return np.concatenate([[0.0], np.cumsum(is_correct - accuracy)])


def _count_called(surplus: float, positive_surplus: np.ndarray, b: int) -> tuple[int, int]:
    """How many images can be called when b are called negative, and how many of them positive."""
    reaching = np.flatnonzero(positive_surplus + surplus >= -1e-9)
    return (b + int(reaching[-1]), int(reaching[-1])) if len(reaching) else (-1, 0)


def _zone_between(probs: np.ndarray, b: int, a: int) -> Zone:
    """The zone that leaves the b lowest and the a highest of the sorted probabilities outside, midway to the next."""
    edges = np.concatenate([[0.0], (probs[1:] + probs[:-1]) / 2, [1.0]])
    return Zone(float(edges[b]), float(edges[len(probs) - a]))


def find_nested_zones(
    labels: np.ndarray, probs: np.ndarray, group: np.ndarray, settings: ZoneConfig
) -> dict[int, Zone]:
    """For each group of images [n] the zone found on all other groups; ALL_INCONCLUSIVE where there is no other."""
    keys = np.unique(group).tolist()
    return {key: find_zone(labels[group != key], probs[group != key], settings) for key in keys}


def score_zones(labels: np.ndarray, probs: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> dict[str, float | None]:
    """Share of images set aside, and accuracy on the rest (None where nothing is left), under zones [n]."""
    is_called_negative = probs < lows
    is_called = is_called_negative | (probs > highs)
    is_correct = (labels == 1) != is_called_negative
    return {
        "set_aside": float(1 - is_called.mean()) if len(is_called) else None,
        "accuracy": float(is_correct[is_called].mean()) if is_called.any() else None,
    }
