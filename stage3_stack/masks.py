"""From mean maps to final masks, image by image, on several threads; nothing larger than an image is held."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cxr import rle
from cxr.geometry import Letterbox, resize
from cxr.prepared import Prepared
from stage3_stack.maps import MeanMap
from stage3_stack.thresholds import Counts, counted, level


@dataclass(frozen=True)
class Images:
    """Images with one set of maps, in a fixed order."""

    ids: list[str]
    maps: list[MeanMap]
    """Of each image: the maps of the fold that it was held out from, or the test's."""


def count(images: Images, truth: Callable[[str], np.ndarray | None]) -> Counts:
    """What decisions depend on, of each image; `truth(image_id)` is a canvas mask of any size, None where empty."""
    size = max((maps.size for maps in images.maps), default=0)

    def one(image: tuple[str, MeanMap]) -> tuple[np.ndarray, np.ndarray, int]:
        drawn = truth(image[0])
        drawn = None if drawn is None else on_canvas(drawn, size)
        above, overlap = counted(_mean(image, size), drawn)
        return above, overlap, 0 if drawn is None else int(drawn.sum())

    found = list(_threaded(one, zip(images.ids, images.maps, strict=True)))
    above, overlap = (np.array([row[k] for row in found], np.int32).reshape(-1, 256) for k in (0, 1))
    return Counts(above, overlap, np.array([row[2] for row in found], np.int64), size)


def canvas_truth(prepared: Prepared, image_id: str) -> np.ndarray | None:
    """The hand-drawn mask on the prepared canvas, None where it is empty."""
    return prepared.mask(image_id) if prepared.manifest.at[image_id, "mask_area"] > 0 else None


def on_canvas(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask of 0 or 1 on a canvas of another size: pixels that are at least half inside."""
    return (resize(mask.astype(np.uint8) * 255, size, size) >= 128).astype(np.uint8)


def _mean(image: tuple[str, MeanMap], size: int) -> np.ndarray:
    return resize(image[1].mean(image[0]), size, size)


@dataclass(frozen=True)
class Areas:
    """Pixel counts in the originals, int64 [n] each; Dice follows from them."""

    truth: np.ndarray
    found: np.ndarray
    overlap: np.ndarray


def measure(images: Images, drawn: np.ndarray, bottoms: np.ndarray, prepared: Prepared, truth: dict[str, str]) -> Areas:
    """Areas of final masks in the originals' pixels: above `bottoms` [n] where `drawn` [n], else empty.

    truth: RLE of the hand-drawn mask by image_id. Only images that get a mask are brought back to full size.
    """

    def one(image: tuple[str, MeanMap, bool, float]) -> tuple[int, int, int]:
        box, code = prepared.letterbox(image[0]), truth[image[0]]
        area = int(np.diff(rle.runs(code), axis=1).sum())
        if not image[2]:
            return area, 0, 0
        found = final_mask(image[1].mean(image[0]), box, image[3])
        inside = int((found & rle.decode(code, box.height, box.width)).sum()) if area else 0
        return area, int(found.sum()), inside

    rows = _threaded(one, zip(images.ids, images.maps, drawn.tolist(), bottoms.tolist(), strict=True))
    return Areas(*np.array(list(rows), np.int64).reshape(-1, 3).T)


def final_mask(mean: np.ndarray, box: Letterbox, bottom: float) -> np.ndarray:
    """Pixels above `bottom` in the original, bool [height, width]; the map is enlarged first, so edges are smooth."""
    return box.restore(mean) > level(bottom)


def codes(images: Images, drawn: np.ndarray, bottom: float, prepared: Prepared) -> dict[str, str]:
    """RLE of each image's final mask in the original's pixels."""

    def one(image: tuple[str, MeanMap, bool]) -> str:
        if not image[2]:
            return rle.EMPTY
        return rle.encode(final_mask(image[1].mean(image[0]), prepared.letterbox(image[0]), bottom))

    rows = _threaded(one, zip(images.ids, images.maps, drawn.tolist(), strict=True))
    return dict(zip(images.ids, rows, strict=True))


def _threaded(one: Callable, items: Iterable) -> Iterable:
    """`one` of each item in order; OpenCV and NumPy work outside the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(one, items)
