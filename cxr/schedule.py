"""The learning rate over a training, for every framework: a share of `lr`, of how far the training has come.

Plateau is not here: it goes by the watched score.
"""

import math
from typing import NamedTuple

from cxr.training import Training


class Place(NamedTuple):
    """Where a training stands."""

    epoch: int
    """From 0."""
    done: float
    """Share of this epoch's batches that are done, 0..1."""
    time: float = 0.0
    """Share of training.minutes that has gone, 0 where there is no such limit."""


def progress(training: Training, place: Place) -> float:
    """How far the training has come, 0..1; the epochs of the head alone are a course of their own."""
    first = _first(training)
    if place.epoch < first:
        return (place.epoch + place.done) / first
    counted = (place.epoch - first + place.done) / (training.epochs - first)
    return min(place.time if training.minutes else counted, 1.0)


def _first(training: Training) -> int:
    """Epochs of the head alone; the last epoch is never one."""
    return min(training.head_first, training.epochs - 1)


def factor(training: Training, place: Place) -> float:
    """The learning rate there, as a share of training.lr."""
    least = training.lr_min / training.lr
    at = progress(training, place)
    match training.schedule:
        case "cosine":
            return least + (1 - least) * _falling(at * training.cycles % 1.0 if at < 1 else 1.0)
        case "onecycle":
            return _onecycle(at)
        case "warmup":
            first = _first(training)
            course = first if place.epoch < first else training.epochs - first
            return _warmup(training, math.floor(at * course + 1e-9))
    return 1.0


def momentum(training: Training, place: Place) -> float | None:
    """Adam's first beta there; None where the schedule leaves it alone. One-cycle: .95 to .85 and back (Smith 2018)."""
    if training.schedule != "onecycle":
        return None
    at = progress(training, place)
    return 0.85 + 0.1 * (_falling(at / RISE) if at < RISE else 1 - _falling((at - RISE) / (1 - RISE)))


RISE = 0.3  # share of one-cycle in which the rate rises; from 1/25 of lr, and down to 1/250000, as in fastai


def _onecycle(at: float) -> float:
    if at < RISE:
        return 1 - (1 - 1 / 25) * _falling(at / RISE)
    return 1 / 250000 + (1 - 1 / 250000) * _falling((at - RISE) / (1 - RISE))


def _warmup(training: Training, epoch: int) -> float:
    start, least = (training.lr_start or training.lr) / training.lr, training.lr_min / training.lr
    if epoch < training.warmup_epochs:
        return start + (1 - start) * epoch / training.warmup_epochs
    fallen = max(epoch - training.warmup_epochs - training.hold_epochs, 0)
    return least + (1 - least) * training.decay**fallen


def _falling(at: float) -> float:
    """Half a cosine, from 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * at)) / 2
