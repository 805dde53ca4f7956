"""The run-length code of the SIIM-ACR data: relative offsets, column-major, '-1' for an empty mask.

Each pair is (offset from the end of the previous run, length); pixels count down the columns,
then from left to right. A widespread encoder of this code loses a run that touches the last
pixel; the tests hold that this one does not.
"""

from collections.abc import Iterable

import numpy as np

EMPTY = "-1"


class RleError(ValueError):
    """The text is no run-length code, or runs past its image."""


def parse_runs(text: str, pixels: int | None = None) -> np.ndarray:
    """Start and end (exclusive) of each run, int64 [n, 2]; raises RleError on a bad code."""
    text = text.strip()
    if text in ("", EMPTY):
        return np.empty((0, 2), np.int64)
    try:
        numbers = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise RleError("holds something that is not a whole number") from None
    if len(numbers) % 2:
        raise RleError(f"has an odd count of numbers ({len(numbers)})")
    offsets, lengths = numbers[0::2], numbers[1::2]
    if (lengths <= 0).any():
        raise RleError("has a run of length 0 or less")
    if (offsets < 0).any():
        raise RleError("has a negative offset, so that a run overlaps the one before it")
    ends = np.cumsum(offsets + lengths)
    if pixels is not None and ends[-1] > pixels:
        raise RleError(f"runs to pixel {ends[-1]}, but the image has {pixels}")
    return np.stack([ends - lengths, ends], axis=1)


def decode_mask(text: str, height: int, width: int) -> np.ndarray:
    """Mask of one row, bool [height, width]; raises RleError on a bad code."""
    flat = np.zeros(height * width, np.bool_)
    for start, end in parse_runs(text, height * width):
        flat[start:end] = True
    return flat.reshape(width, height).T


def decode_union(texts: Iterable[str], height: int, width: int) -> np.ndarray:
    """Mask of an image with several rows, bool [height, width]: their union, as a reader drew them."""
    mask = np.zeros((height, width), np.bool_)
    for text in texts:
        mask |= decode_mask(text, height, width)
    return mask


def encode_mask(mask: np.ndarray) -> str:
    """Code of a mask, [height, width] of bool or 0/1; '-1' where it is empty."""
    flat = np.concatenate([[0], np.asarray(mask, np.bool_).T.ravel().view(np.int8), [0]])
    edges = np.flatnonzero(np.diff(flat))
    if not len(edges):
        return EMPTY
    starts, ends = edges[0::2], edges[1::2]
    offsets = starts - np.concatenate([[0], ends[:-1]])
    return " ".join(map(str, np.stack([offsets, ends - starts], axis=1).ravel()))
