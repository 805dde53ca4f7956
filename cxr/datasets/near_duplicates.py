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

HASH_SIDE, MAX_DIFFERING_BITS = 16, 24  # bits
THUMBNAIL_SIDE, MIN_CORRELATION = 32, 0.95  # pixels, correlation
BLANK_DEVIATION = 4.0  # gray levels of standard deviation of a thumbnail; the flattest of 483 radiographs has 24
SMALL_SIDE = 256  # pixels, to which larger canvases are shrunk first: a quarter of the time at 1024; 3 bits differ
BLUR_DEVIATION = 2.0  # pixels of a thumbnail: the standard deviation of the blur that keeps the broad shapes


def compute_signature(canvas: np.ndarray) -> np.ndarray:
    """Hash of a canvas [size, size]: uint64 [4]."""
    cells = cv2.resize(canvas, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(cells[:, 1:] > cells[:, :-1]).view(np.uint64)


def make_thumbnail(canvas: np.ndarray) -> np.ndarray:
    """A canvas [size, size] as uint8 [THUMBNAIL, THUMBNAIL]."""
    return cv2.resize(canvas, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)


def is_blank(thumbnail: np.ndarray) -> bool:
    """Whether a thumbnail [THUMBNAIL, THUMBNAIL] shows nothing within the letterbox's black margins."""
    content_indices = [np.flatnonzero(thumbnail.any(axis=axis)) for axis in (1, 0)]
    if not content_indices[0].size:
        return True
    inner = tuple(
        slice(indices[0] + 1, indices[-1]) for indices in content_indices
    )  # the outermost lines may be half margin
    return thumbnail[inner].size == 0 or float(thumbnail[inner].std()) < BLANK_DEVIATION


def group_canvases(canvases: Iterable[np.ndarray]) -> np.ndarray:
    """Number of the group of each canvas, int64 [n]: near-duplicates are linked."""
    return link_pictures(
        [(compute_signature(canvas), make_thumbnail(canvas)) for canvas in map(_shrink_canvas, canvases)]
    )


def _shrink_canvas(canvas: np.ndarray) -> np.ndarray:
    """A canvas [size, size] of a multiple of SMALL pixels at SMALL; any other as it is."""
    is_multiple = canvas.shape[0] % SMALL_SIDE == 0 and canvas.shape[0] > SMALL_SIDE
    return cv2.resize(canvas, (SMALL_SIDE, SMALL_SIDE), interpolation=cv2.INTER_AREA) if is_multiple else canvas


def link_pictures(pictures: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Number of the group of each picture, int64 [n]: its first member's; pictures: (signature, thumbnail) each.

    A blank one is nobody's duplicate: all blank ones are alike, whosever they are.
    """
    group_number = np.arange(len(pictures))
    visible_indices = np.array([k for k, (_, picture) in enumerate(pictures) if not is_blank(picture)], np.int64)
    group_number[visible_indices] = visible_indices[_link_visible_pictures([pictures[k] for k in visible_indices])]
    return group_number


def _link_visible_pictures(pictures: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    hashes = np.array([bits for bits, _ in pictures], np.uint64).reshape(-1, HASH_SIDE * HASH_SIDE // 64)
    thumbnails = np.array([picture for _, picture in pictures], np.uint8).reshape(-1, THUMBNAIL_SIDE * THUMBNAIL_SIDE)
    rows = np.concatenate([hashes.view(np.uint8), thumbnails], axis=1)
    _, first_indices, row_of_picture = np.unique(
        rows, axis=0, return_index=True, return_inverse=True
    )  # a thousand copies: one
    order = np.argsort(first_indices)
    distinct_indices = first_indices[order]
    return distinct_indices[
        _link_near_duplicates(hashes[distinct_indices], _extract_details(thumbnails[distinct_indices]))
    ][np.argsort(order)[row_of_picture]]


def _extract_details(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails less their broad shapes, float32 [n, pixels] of length 1; 0 where there is none."""
    pictures = thumbnails.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE).astype(np.float32)
    details = np.array(
        [picture - cv2.GaussianBlur(picture, (0, 0), BLUR_DEVIATION) for picture in pictures], np.float32
    ).reshape(thumbnails.shape)
    details -= details.mean(axis=1, keepdims=True)
    return details / np.maximum(np.linalg.norm(details, axis=1, keepdims=True), 1e-3)


def _link_near_duplicates(hashes: np.ndarray, details: np.ndarray) -> np.ndarray:
    """The first of each picture's group, int64 [n]."""
    hash_words, parents = np.ascontiguousarray(hashes.T), np.arange(len(hashes))
    for index in range(len(parents) - 1):
        bits = np.bitwise_count(hash_words[:, index + 1 :] ^ hash_words[:, index, None]).sum(axis=0, dtype=np.uint16)
        candidates = index + 1 + np.flatnonzero(bits <= MAX_DIFFERING_BITS)
        for candidate in candidates[details[candidates] @ details[index] >= MIN_CORRELATION]:
            low, high = sorted((_find_root(parents, index), _find_root(parents, candidate)))
            parents[high] = low
    return np.array([_find_root(parents, index) for index in range(len(parents))], np.int64)


def _find_root(parents: np.ndarray, index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return int(index)
