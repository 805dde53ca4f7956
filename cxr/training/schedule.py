"""The learning rate over a training, for every framework: a share of `lr`, of how far the training has come.

Plateau is not here: it goes by the watched score.
"""

import math
from typing import NamedTuple

from cxr.training.settings import Training


class SchedulePosition(NamedTuple):
    """Where a training stands."""

    epoch: int
    """From 0."""
    epoch_share: float
    """Share of this epoch's batches that are done, 0..1."""
    time_share: float = 0.0
    """Share of training.minutes that has gone, 0 where there is no such limit."""


def training_progress(training: Training, position: SchedulePosition) -> float:
    """How far the training has come, 0..1; the epochs of the head alone are a course of their own."""
    head_epochs = _count_head_epochs(training)
    if position.epoch < head_epochs:
        return (position.epoch + position.epoch_share) / head_epochs
    epoch_progress = (position.epoch - head_epochs + position.epoch_share) / (training.epochs - head_epochs)
    return min(position.time_share if training.minutes else epoch_progress, 1.0)


def _count_head_epochs(training: Training) -> int:
    """Epochs of the head alone; the last epoch is never one."""
    return min(training.head_first, training.epochs - 1)


def lr_factor(training: Training, position: SchedulePosition) -> float:
    """The learning rate there, as a share of training.lr."""
    min_factor = training.lr_min / training.lr
    progress = training_progress(training, position)
    match training.schedule:
        case "cosine":
            return min_factor + (1 - min_factor) * _half_cosine(
                progress * training.cycles % 1.0 if progress < 1 else 1.0
            )
        case "onecycle":
            return _onecycle_factor(progress)
        case "warmup":
            head_epochs = _count_head_epochs(training)
            phase_epochs = head_epochs if position.epoch < head_epochs else training.epochs - head_epochs
            return _warmup_factor(training, math.floor(progress * phase_epochs + 1e-9))
    return 1.0


def scheduled_momentum(training: Training, position: SchedulePosition) -> float | None:
    """Adam's first beta there; None where the schedule leaves it alone. One-cycle: .95 to .85 and back (Smith 2018)."""
    if training.schedule != "onecycle":
        return None
    progress = training_progress(training, position)
    return 0.85 + 0.1 * (
        _half_cosine(progress / RISE_SHARE)
        if progress < RISE_SHARE
        else 1 - _half_cosine((progress - RISE_SHARE) / (1 - RISE_SHARE))
    )


RISE_SHARE = 0.3  # share of one-cycle in which the rate rises; from 1/25 of lr, and down to 1/250000, as in fastai


def _onecycle_factor(progress: float) -> float:
    if progress < RISE_SHARE:
        return 1 - (1 - 1 / 25) * _half_cosine(progress / RISE_SHARE)
    return 1 / 250000 + (1 - 1 / 250000) * _half_cosine((progress - RISE_SHARE) / (1 - RISE_SHARE))


def _warmup_factor(training: Training, epoch: int) -> float:
    start_factor, min_factor = (training.lr_start or training.lr) / training.lr, training.lr_min / training.lr
    if epoch < training.warmup_epochs:
        return start_factor + (1 - start_factor) * epoch / training.warmup_epochs
    decay_epochs = max(epoch - training.warmup_epochs - training.hold_epochs, 0)
    return min_factor + (1 - min_factor) * training.decay**decay_epochs


def _half_cosine(progress: float) -> float:
    """Half a cosine, from 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * progress)) / 2
