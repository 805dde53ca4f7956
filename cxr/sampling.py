"""Which images stand in which batch of an epoch."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from cxr.config import Strict

Share = Annotated[float, Field(gt=0, lt=1)]
Shares = Annotated[list[Share], Field(min_length=1)]


class Sampling(Strict):
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
    def _positives_only_is_alone(self) -> "Sampling":
        of_negatives = ("positive_share", "drop_negatives", "negatives_per_positive", "extra_negatives")
        asked = [name for name in of_negatives if getattr(self, name)]
        if self.positives_only and asked:
            raise ValueError(f"positives_only leaves no negatives for {asked[0]}")
        if self.extra_negatives and self.negatives_per_positive is None:
            raise ValueError("extra_negatives needs negatives_per_positive")
        return self

    def share(self, epoch: int, epochs: int) -> float | None:
        """Share of positives in the batches of an epoch (from 0) of `epochs`."""
        if not isinstance(self.positive_share, list):
            return self.positive_share
        if self.path == "parts":
            return self.positive_share[min(epoch * len(self.positive_share) // epochs, len(self.positive_share) - 1)]
        places = np.linspace(0, max(epochs - 1, 1), len(self.positive_share))
        return float(np.interp(epoch, places, self.positive_share))


def order(sampling: Sampling, positive: np.ndarray, epoch: int, epochs: int, batch: int, rng) -> np.ndarray:
    """Rows of an epoch in their order, int [m], of images that are positive or not, bool [n]."""
    rows = _shown(sampling, positive, rng)
    share = sampling.share(epoch, epochs)
    return rng.permutation(rows) if share is None else rows[with_share(positive[rows], share, batch, rng)]


def _shown(sampling: Sampling, positive: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rows that an epoch draws from."""
    yes, no = np.flatnonzero(positive), np.flatnonzero(~positive)
    if sampling.positives_only:
        return yes
    no = no[rng.random(len(no)) >= sampling.drop_negatives]
    if sampling.negatives_per_positive is not None:
        wanted = round(len(yes) * sampling.negatives_per_positive) + sampling.extra_negatives
        no = rng.permutation(no)[:wanted]
    return np.sort(np.concatenate([yes, no]))


def batches_of(image_ids: list[str], order: np.ndarray, size: int, most: int | None = None) -> list[list[str]]:
    """Batches of `size` in this order, at most `most`; a shorter last one is dropped, as it would upset batch norm."""
    ids = [image_ids[row] for row in order]
    full = max(len(ids) // size, 1) * size
    return [ids[start : start + size] for start in range(0, min(full, len(ids)), size)][:most]


def with_share(positive: np.ndarray, share: float, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of as many batches as the images fill, with a share of positives; of one kind alone: all rows.

    Batches are as alike as whole numbers allow, and the epoch has the share: .6 of batches of 4 are 2, 3, 2, 3, 2.
    Positives come up equally often; negatives are drawn anew each epoch.
    """
    if positive.all() or not positive.any():
        return rng.permutation(len(positive))
    ends = np.floor(share * batch * np.arange(max(len(positive) // batch, 1) + 1) + 0.5).astype(int)
    yes = _cycled(np.flatnonzero(positive), ends[-1], rng)
    no = _cycled(np.flatnonzero(~positive), batch * (len(ends) - 1) - ends[-1], rng)
    parts = zip(np.split(yes, ends[1:-1]), np.split(no, batch * np.arange(1, len(ends) - 1) - ends[1:-1]), strict=True)
    return np.concatenate([rng.permutation(np.concatenate(part)) for part in parts])


def _cycled(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the rows, each as often as any other."""
    rounds = -(-count // len(rows))
    return np.concatenate([rows[:0], *(rng.permutation(rows) for _ in range(rounds))])[:count]
