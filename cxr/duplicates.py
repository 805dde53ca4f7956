"""Near-duplicates among chest radiographs: the same exposure stored twice.

Two tests, the cheap one first. A difference hash of 16 x 16 bits: each says whether a cell of a 17 x 16 thumbnail is
darker than the next one (the usual 8 x 8 are too few, since all chests look alike in them). Then the correlation of
32 x 32 thumbnails without their broad shapes. On 483 radiographs and 360 phantoms, of each image against itself after
two rounds of JPEG at quality 60 and gamma .9, and against every other: copies differ in 23 bits at most and correlate
.985 at least, different exposures differ in 7 bits at least and correlate .894 at most.
"""

from collections.abc import Iterable

import cv2
import numpy as np

SIDE, NEAR = 16, 24  # bits
THUMBNAIL, ALIKE = 32, 0.95  # pixels, correlation
BLANK = 4.0  # gray levels of standard deviation of a thumbnail; the flattest of 483 radiographs has 24
SMALL = 256  # pixels a larger canvas is first shrunk to: a quarter of the time at 1024; 3 bits differ at most, on 487
BROAD = 2.0  # pixels of a thumbnail: the standard deviation of the blur that keeps the broad shapes


def signature(canvas: np.ndarray) -> np.ndarray:
    """Hash of a canvas [size, size]: uint64 [4]."""
    cells = cv2.resize(canvas, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(cells[:, 1:] > cells[:, :-1]).view(np.uint64)


def thumbnail(canvas: np.ndarray) -> np.ndarray:
    """A canvas [size, size] as uint8 [THUMBNAIL, THUMBNAIL]."""
    return cv2.resize(canvas, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)


def is_blank(thumbnail: np.ndarray) -> bool:
    """Whether a thumbnail [THUMBNAIL, THUMBNAIL] shows nothing within the letterbox's black margins."""
    shown = [np.flatnonzero(thumbnail.any(axis=axis)) for axis in (1, 0)]
    if not shown[0].size:
        return True
    inner = tuple(slice(lines[0] + 1, lines[-1]) for lines in shown)  # the outermost lines may be half margin
    return thumbnail[inner].size == 0 or float(thumbnail[inner].std()) < BLANK


def groups(canvases: Iterable[np.ndarray]) -> np.ndarray:
    """Number of the group of each canvas, int64 [n]: near-duplicates are linked."""
    return linked([(signature(small), thumbnail(small)) for small in map(_shrunk, canvases)])


def _shrunk(canvas: np.ndarray) -> np.ndarray:
    """A canvas [size, size] of a multiple of SMALL pixels at SMALL; any other as it is."""
    whole = canvas.shape[0] % SMALL == 0 and canvas.shape[0] > SMALL
    return cv2.resize(canvas, (SMALL, SMALL), interpolation=cv2.INTER_AREA) if whole else canvas


def linked(pictures: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Number of the group of each picture, int64 [n]: its first member's; pictures: (signature, thumbnail) each.

    A blank one is nobody's duplicate: all blank ones are alike, whosever they are.
    """
    number = np.arange(len(pictures))
    seen = np.array([k for k, (_, picture) in enumerate(pictures) if not is_blank(picture)], np.int64)
    number[seen] = seen[_linked([pictures[k] for k in seen])]
    return number


def _linked(pictures: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    hashes = np.array([bits for bits, _ in pictures], np.uint64).reshape(-1, SIDE * SIDE // 64)
    small = np.array([picture for _, picture in pictures], np.uint8).reshape(-1, THUMBNAIL * THUMBNAIL)
    rows = np.concatenate([hashes.view(np.uint8), small], axis=1)
    _, first, same = np.unique(rows, axis=0, return_index=True, return_inverse=True)  # a thousand copies: one
    order = np.argsort(first)
    kept = first[order]
    return kept[_roots(hashes[kept], _details(small[kept]))][np.argsort(order)[same]]


def _details(small: np.ndarray) -> np.ndarray:
    """Thumbnails less their broad shapes, float32 [n, pixels] of length 1; 0 where there is none."""
    pictures = small.reshape(-1, THUMBNAIL, THUMBNAIL).astype(np.float32)
    fine = np.array([one - cv2.GaussianBlur(one, (0, 0), BROAD) for one in pictures], np.float32).reshape(small.shape)
    fine -= fine.mean(axis=1, keepdims=True)
    return fine / np.maximum(np.linalg.norm(fine, axis=1, keepdims=True), 1e-3)


def _roots(hashes: np.ndarray, details: np.ndarray) -> np.ndarray:
    """The first of each picture's group, int64 [n]."""
    words, root = np.ascontiguousarray(hashes.T), np.arange(len(hashes))
    for one in range(len(root) - 1):
        bits = np.bitwise_count(words[:, one + 1 :] ^ words[:, one, None]).sum(axis=0, dtype=np.uint16)
        maybe = one + 1 + np.flatnonzero(bits <= NEAR)
        for other in maybe[details[maybe] @ details[one] >= ALIKE]:
            low, high = sorted((_find(root, one), _find(root, other)))
            root[high] = low
    return np.array([_find(root, one) for one in range(len(root))], np.int64)


def _find(root: np.ndarray, one: int) -> int:
    while root[one] != one:
        root[one] = root[root[one]]
        one = root[one]
    return int(one)
