"""Which images stand in which batch of an epoch."""

import numpy as np


def batches_of(image_ids: list[str], order: np.ndarray, size: int) -> list[list[str]]:
    """Batches of `size` in the order given; a shorter last one is dropped, as it would upset batch norm."""
    ids = [image_ids[row] for row in order]
    full = max(len(ids) // size, 1) * size
    return [ids[start : start + size] for start in range(0, min(full, len(ids)), size)]


def with_share(positive: np.ndarray, share: float, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of as many batches as the images fill, each with its share of positives; of one kind alone: all rows.

    Positives come up equally often; negatives are drawn anew each epoch.
    """
    if positive.all() or not positive.any():
        return rng.permutation(len(positive))
    count = max(len(positive) // batch, 1)
    wanted = min(max(round(share * batch), 1), batch - 1) if batch > 1 else 1
    kinds = [(np.flatnonzero(positive), wanted), (np.flatnonzero(~positive), batch - wanted)]
    drawn = [_cycled(rows, count * each, rng).reshape(count, each) for rows, each in kinds]
    return np.concatenate([rng.permutation(row) for row in np.concatenate(drawn, axis=1)])


def _cycled(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the rows, each as often as any other."""
    rounds = -(-count // len(rows))
    return np.concatenate([rows[:0], *(rng.permutation(rows) for _ in range(rounds))])[:count]
