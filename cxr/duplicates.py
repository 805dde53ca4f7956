"""Near-duplicates among chest radiographs: the same exposure stored twice.

A difference hash of 16 x 16 bits: each bit says whether a cell of a 17 x 16 thumbnail is darker than
the next one. The usual 8 x 8 bits are too few here, since all chests look alike in them: on 483
radiographs every pair that close (3 bits or fewer) showed two different people. With 256 bits,
copies in another JPEG quality and gamma differ in 11 at most, different exposures in 22 at least.
"""

from collections.abc import Iterable

import cv2
import numpy as np

SIDE = 16
NEAR = 10  # bits


def signature(canvas: np.ndarray) -> np.ndarray:
    """Hash of a canvas [size, size]: uint64 [4]."""
    cells = cv2.resize(canvas, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(cells[:, 1:] > cells[:, :-1]).view(np.uint64)


def groups(canvases: Iterable[np.ndarray]) -> np.ndarray:
    """Number of the group of each canvas, int64 [n]: linked where their hashes differ in NEAR bits or fewer."""
    hashes = np.array([signature(canvas) for canvas in canvases], np.uint64).reshape(-1, SIDE * SIDE // 64)
    root = np.arange(len(hashes))
    for one in range(len(hashes) - 1):
        bits = np.bitwise_count(hashes[one + 1 :] ^ hashes[one]).sum(axis=1, dtype=np.int64)
        for other in np.flatnonzero(bits <= NEAR) + one + 1:
            low, high = sorted((_find(root, one), _find(root, other)))
            root[high] = low
    return np.array([_find(root, one) for one in range(len(root))], np.int64)


def _find(root: np.ndarray, one: int) -> int:
    while root[one] != one:
        root[one] = root[root[one]]
        one = root[one]
    return int(one)
