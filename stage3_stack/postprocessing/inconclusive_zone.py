"""The inconclusive zone: probabilities that are called neither negative nor positive (after reyvaz, 2020)."""

from typing import NamedTuple

import numpy as np

from stage3_stack.config import ZoneConfig


class Zone(NamedTuple):
    """Below low an image is called negative, above high positive; between them, both included, neither."""

    low: float
    high: float


ALL_INCONCLUSIVE = Zone(0.0, 1.0)
"""Every image is inconclusive: the accuracy cannot be reached."""


def find_zone(labels: np.ndarray, probs: np.ndarray, settings: ZoneConfig) -> Zone:
    """The settings' own zone, or the one that sets the fewest images aside with the settings' accuracy on the others.

    labels [n] of 0 or 1, probs [n]. The search is exact and our own: with b images called negative and a called
    positive, the correct calls must be at least accuracy * (b + a), which splits into a term of b and a term of a.
    """
    if settings.accuracy is None:
        return Zone(settings.low, settings.high)
    order = np.argsort(probs, kind="stable")
    probs, labels = probs[order], labels[order]
    is_boundary = np.concatenate([[True], probs[1:] > probs[:-1], [True]]) if len(probs) else np.ones(1, bool)
    negative_surplus = _accuracy_surplus(labels == 0, settings.accuracy)
    positive_surplus = _accuracy_surplus(labels[::-1] == 1, settings.accuracy)
    negative_surplus[~is_boundary] = positive_surplus[~is_boundary[::-1]] = -np.inf  # ties get the same call
    called_counts = [
        _count_called(negative_surplus[b], positive_surplus[: len(probs) - b + 1], b) for b in range(len(probs) + 1)
    ]
    b = int(np.argmax([number for number, _ in called_counts]))
    number, a = called_counts[b]
    return _zone_between(probs, b, a) if number > 0 else ALL_INCONCLUSIVE


def _accuracy_surplus(is_correct: np.ndarray, accuracy: float) -> np.ndarray:
    """Correct calls minus accuracy times calls, of the first 0, 1, .. n images."""
    return np.concatenate([[0.0], np.cumsum(is_correct - accuracy)])


def _count_called(surplus: float, positive_surplus: np.ndarray, b: int) -> tuple[int, int]:
    """How many images can be called if b are called negative, how many of them positive; (-1, 0) if none."""
    reaching = np.flatnonzero(positive_surplus + surplus >= -1e-9)
    return (b + int(reaching[-1]), int(reaching[-1])) if len(reaching) else (-1, 0)


def _zone_between(probs: np.ndarray, b: int, a: int) -> Zone:
    """The zone outside of which the b lowest and the a highest of the sorted probabilities lie, midway to the next."""
    edges = np.concatenate([[0.0], (probs[1:] + probs[:-1]) / 2, [1.0]])
    return Zone(float(edges[b]), float(edges[len(probs) - a]))


def find_nested_zones(
    labels: np.ndarray, probs: np.ndarray, group: np.ndarray, settings: ZoneConfig
) -> dict[int, Zone]:
    """For each group the zone found on all other groups.

    labels: float64 [n] of 0 or 1
    probs: float64 [n], 0 to 1
    group: int [n]
    settings: of the zone

    Returns a zone for each group; ALL_INCONCLUSIVE where there is no other group.
    """
    keys = np.unique(group).tolist()
    return {key: find_zone(labels[group != key], probs[group != key], settings) for key in keys}


def score_zones(labels: np.ndarray, probs: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> dict[str, float | None]:
    """How each image fares under a zone of its own.

    labels: float64 [n] of 0 or 1
    probs: float64 [n], 0 to 1
    lows: float64 [n], lower edge of each image's zone
    highs: float64 [n], upper edge of each image's zone

    Returns set_aside, the share of inconclusive images, and accuracy on the others; None where there are none.
    """
    is_called_negative = probs < lows
    is_called = is_called_negative | (probs > highs)
    is_correct = (labels == 1) != is_called_negative
    return {
        "set_aside": float(1 - is_called.mean()) if len(is_called) else None,
        "accuracy": float(is_correct[is_called].mean()) if is_called.any() else None,
    }
