"""Which images stand in which batch of an epoch."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from cxr.config import StrictModel

Share = Annotated[float, Field(gt=0, lt=1)]
Shares = Annotated[list[Share], Field(min_length=1)]


class Sampling(StrictModel):
    """Which images an epoch shows, and how many positives a batch holds; by default all, as they come."""

    positive_share: Share | Shares | None = None
    """Share of positives in each batch; several: from the first to the last over the training, by `path`."""
    path: Literal["parts", "linear"] = "parts"
    """parts: as many equal parts of the epochs as there are shares (first place); linear: evenly between them."""
    positives_only: bool = False
    drop_negatives: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which a negative is left out of an epoch, drawn anew each epoch."""
    negatives_per_positive: NonNegativeFloat | None = None
    """An epoch's negatives, drawn anew each epoch: this many times the positives, and extra_negatives more."""
    extra_negatives: NonNegativeInt = 0

    @model_validator(mode="after")
    def _check_negative_settings(self) -> "Sampling":
        negative_settings = ("positive_share", "drop_negatives", "negatives_per_positive", "extra_negatives")
        conflicting_settings = [name for name in negative_settings if getattr(self, name)]
        if self.positives_only and conflicting_settings:
            raise ValueError(f"positives_only leaves no negatives for {conflicting_settings[0]}")
        if self.extra_negatives and self.negatives_per_positive is None:
            raise ValueError("extra_negatives needs negatives_per_positive")
        return self

    def share_in_epoch(self, epoch: int, epoch_count: int) -> float | None:
        """Share of positives in the batches of an epoch (from 0) of `epoch_count`."""
        if not isinstance(self.positive_share, list):
            return self.positive_share
        if self.path == "parts":
            return self.positive_share[
                min(epoch * len(self.positive_share) // epoch_count, len(self.positive_share) - 1)
            ]
        share_epochs = np.linspace(0, max(epoch_count - 1, 1), len(self.positive_share))
        return float(np.interp(epoch, share_epochs, self.positive_share))


def draw_epoch_rows(
    sampling: Sampling, positive: np.ndarray, epoch: int, epoch_count: int, batch_size: int, rng
) -> np.ndarray:
    """Rows of an epoch in their order, int [m], of images that are positive or not, bool [n].

    sampling: how positives and negatives are mixed.
    positive: of the training images, bool [n].
    epoch: from 0.
    epoch_count: epochs of the training.
    batch_size: images in a batch.
    rng: random numbers, the only ones used.
    """
    rows = _select_rows(sampling, positive, rng)
    share = sampling.share_in_epoch(epoch, epoch_count)
    return rng.permutation(rows) if share is None else rows[balance_batches(positive[rows], share, batch_size, rng)]


def _select_rows(sampling: Sampling, positive: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rows that an epoch draws from."""
    positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
    if sampling.positives_only:
        return positives
    negatives = negatives[rng.random(len(negatives)) >= sampling.drop_negatives]
    if sampling.negatives_per_positive is not None:
        negative_count = round(len(positives) * sampling.negatives_per_positive) + sampling.extra_negatives
        negatives = rng.permutation(negatives)[:negative_count]
    return np.sort(np.concatenate([positives, negatives]))


def split_into_batches(
    image_ids: list[str], rows: np.ndarray, batch_size: int, max_batches: int | None = None
) -> list[list[str]]:
    """Batches of `batch_size` in this order, at most `max_batches`; a shorter last one is dropped, as it would upset
    batch norm.

    image_ids: all training images.
    rows: rows of the epoch, int [m].
    """
    ids = [image_ids[row] for row in rows]
    full_count = max(len(ids) // batch_size, 1) * batch_size
    return [ids[start : start + batch_size] for start in range(0, min(full_count, len(ids)), batch_size)][:max_batches]


def balance_batches(positive: np.ndarray, share: float, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of as many batches as the images fill, with a share of positives; of one kind alone: all rows.

    Batches are as alike as whole numbers allow, and the epoch has the share: .6 of batches of 4 are 2, 3, 2, 3, 2.
    Positives come up equally often; negatives are drawn anew each epoch.

    positive: bool [n].
    batch_size: images in a batch.
    rng: random numbers, the only ones used.
    """
    if positive.all() or not positive.any():
        return rng.permutation(len(positive))
    positive_ends = np.floor(share * batch_size * np.arange(max(len(positive) // batch_size, 1) + 1) + 0.5).astype(int)
    positives = _repeat_rows(np.flatnonzero(positive), positive_ends[-1], rng)
    negatives = _repeat_rows(np.flatnonzero(~positive), batch_size * (len(positive_ends) - 1) - positive_ends[-1], rng)
    parts = zip(
        np.split(positives, positive_ends[1:-1]),
        np.split(negatives, batch_size * np.arange(1, len(positive_ends) - 1) - positive_ends[1:-1]),
        strict=True,
    )
    return np.concatenate([rng.permutation(np.concatenate(part)) for part in parts])


def _repeat_rows(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the rows, each as often as any other."""
    rounds = -(-count // len(rows))
    return np.concatenate([rows[:0], *(rng.permutation(rows) for _ in range(rounds))])[:count]
