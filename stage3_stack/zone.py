"""The inconclusive zone: probabilities that are called neither negative nor positive (reyvaz, 2020)."""

from typing import NamedTuple

import numpy as np

from stage3_stack.config import ZoneConfig


class Zone(NamedTuple):
    """Below low an image is called negative, above high positive; between them, both included, neither."""

    low: float
    high: float


ALL = Zone(0.0, 1.0)
"""Everything is inconclusive: the accuracy that was asked for cannot be reached."""


def find(labels: np.ndarray, probs: np.ndarray, config: ZoneConfig) -> Zone:
    """The fixed zone, or the narrowest one (by images set aside) with the accuracy asked for on the rest.

    labels [n] of 0 or 1, probs [n]. Exact: with b images called negative and a positive, the right ones must be
    at least accuracy * (b + a), which is a sum of a term of b and one of a.
    """
    if config.accuracy is None:
        return Zone(config.low, config.high)
    order = np.argsort(probs, kind="stable")
    probs, labels = probs[order], labels[order]
    whole = np.concatenate([[True], probs[1:] > probs[:-1], [True]]) if len(probs) else np.ones(1, bool)
    below = _surplus(labels == 0, config.accuracy)
    above = _surplus(labels[::-1] == 1, config.accuracy)
    below[~whole], above[~whole[::-1]] = -np.inf, -np.inf  # equal probabilities are called the same
    called = [_most(below[b], above[: len(probs) - b + 1], b) for b in range(len(probs) + 1)]
    b = int(np.argmax([number for number, _ in called]))
    return _between(probs, b, called[b][1]) if called[b][0] > 0 else ALL


def _surplus(right: np.ndarray, accuracy: float) -> np.ndarray:
    """Right calls beyond those needed, among the first 0, 1, .. n images."""
    return np.concatenate([[0.0], np.cumsum(right - accuracy)])


def _most(surplus: float, above: np.ndarray, b: int) -> tuple[int, int]:
    """How many images can be called when b are called negative, and how many of them positive."""
    reached = np.flatnonzero(above + surplus >= -1e-9)
    return (b + int(reached[-1]), int(reached[-1])) if len(reached) else (-1, 0)


def _between(probs: np.ndarray, b: int, a: int) -> Zone:
    """The zone that leaves the b lowest and the a highest of the sorted probabilities outside, midway to the next."""
    edges = np.concatenate([[0.0], (probs[1:] + probs[:-1]) / 2, [1.0]])
    return Zone(float(edges[b]), float(edges[len(probs) - a]))


def nested(labels: np.ndarray, probs: np.ndarray, group: np.ndarray, config: ZoneConfig) -> dict[int, Zone]:
    """For each group of images [n] the zone found on all other groups; ALL where there is no other."""
    keys = np.unique(group).tolist()
    return {key: find(labels[group != key], probs[group != key], config) for key in keys}


def judge(labels: np.ndarray, probs: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> dict[str, float | None]:
    """Share of images set aside, and accuracy on the rest (None where nothing is left), under zones [n]."""
    negative = probs < lows
    called = negative | (probs > highs)
    right = (labels == 1) != negative
    return {
        "set_aside": float(1 - called.mean()) if len(called) else None,
        "accuracy": float(right[called].mean()) if called.any() else None,
    }
