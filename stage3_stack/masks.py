"""From maps to final masks, image by image, on several threads; nothing larger than an image is held."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr import rle
from cxr.geometry import Letterbox, resize
from cxr.paths import Paths
from cxr.prepared import Prepared
from stage3_stack.components import kept, pieces, pruned, restored
from stage3_stack.config import UnitConfig
from stage3_stack.maps import MeanMap, read_maps, read_stacked
from stage3_stack.thresholds import LEVELS, Counts, Cut, Decision, counted, level


@dataclass(frozen=True)
class Images:
    """Images with one set of maps, in a fixed order."""

    ids: list[str]
    maps: list[MeanMap]
    """Of each image: the maps of the fold that it was held out from, or the test's."""


@dataclass(frozen=True)
class Seen:
    """Images with their maps, and what these hold."""

    images: Images
    counts: Counts

    def __getitem__(self, rows: np.ndarray) -> "Seen":
        ids, maps = ([value for value, chosen in zip(values, rows, strict=True) if chosen] for values in self._lists)
        return Seen(Images(ids, maps), self.counts[rows])

    @property
    def _lists(self) -> tuple[list, list]:
        return self.images.ids, self.images.maps


def see_held_out(paths: Paths, prepared: Prepared, unit: UnitConfig, kind: str, tried: list[Cut]) -> Seen:
    """The held-out images of the trained folds, in the order of folds.csv; kind: mean, or the mask stacker's maps."""
    images = held_out(paths, unit.segmenters, fold_of(prepared, unit.trained), kind)
    return Seen(images, count(images, prepared, tried, prepared.manifest["rle"]))


def see_test(paths: Paths, prepared: Prepared, unit: UnitConfig, kind: str, tried: list[Cut]) -> Seen:
    """The test images, in the manifest's order."""
    ids = prepared.ids("test")
    maps = read_stacked(paths, ids) if kind == "stacker" else read_maps(paths, unit.segmenters, None, ids)
    images = Images(ids, [maps] * len(ids))
    return Seen(images, count(images, prepared, tried))


def fold_of(prepared: Prepared, trained: list[int]) -> pd.Series:
    """Fold of each image of the trained folds, by image_id."""
    return prepared.folds.loc[prepared.folds["fold"].isin(trained), "fold"]


def held_out(paths: Paths, segmenters: list[str], folds: pd.Series, kind: str = "mean") -> Images:
    """Images, each with the maps of the fold that it was held out from; folds: by image_id."""
    ids = folds.index.tolist()
    if kind == "stacker":
        return Images(ids, [read_stacked(paths, ids)] * len(ids))
    groups = folds.groupby(folds).groups.items()
    maps = {fold: read_maps(paths, segmenters, int(fold), own.tolist()) for fold, own in groups}
    return Images(ids, [maps[fold] for fold in folds])


def count(images: Images, prepared: Prepared, tried: list[Cut], truth: pd.Series | None = None) -> Counts:
    """What decisions depend on, of each image brought back to the original as for the submission.

    tried: the cuts that drop connected parts, which are counted one by one; truth: RLE of the hand-drawn masks by
    image_id, None where none is known.
    """

    def one(image: tuple[str, MeanMap]) -> tuple:
        box, mean = prepared.letterbox(image[0]), image[1].mean(image[0])
        code = rle.EMPTY if truth is None else truth[image[0]]
        mask = None if code == rle.EMPTY else rle.decode(code, box.height, box.width)
        areas = counted(restored(mean, box), None if mask is None else mask.view(np.uint8))
        area = 0 if mask is None else int(mask.sum())
        own = area, pieces(mean), box.height * box.width
        return *areas, own, image[1].head(image[0]), kept(mean, mask, tried, box)

    return _gathered(list(_threaded(one, zip(images.ids, images.maps, strict=True))), tried)


def _gathered(found: list[tuple], tried: list[Cut]) -> Counts:
    above, overlap = (np.array([row[k] for row in found], np.int32).reshape(-1, LEVELS) for k in (0, 1))
    truth, number, pixels = np.array([row[2] for row in found], np.int64).reshape(-1, 3).T
    head = np.array([row[3] for row in found], float)
    stays = np.array([row[4] for row in found], np.int64).reshape(len(found), len(tried), 2)
    return Counts(above, overlap, truth, head, number, {cut: stays[:, k] for k, cut in enumerate(tried)}, pixels)


def on_canvas(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask of 0 or 1 on a canvas of another size: pixels that are at least half inside."""
    return (resize(mask.astype(np.uint8) * 255, size, size) >= 128).astype(np.uint8)


def final_mask(mean: np.ndarray, box: Letterbox, cut: Cut) -> np.ndarray:
    """The mask in the original, bool [height, width]; the map is enlarged first, so edges are smooth.

    Connected parts are dropped before, on the map's canvas, where they were when the decision was chosen.
    """
    return restored(pruned(mean, cut, box), box) > level(cut.bottom)


def codes(images: Images, drawn: np.ndarray, decision: Decision, prepared: Prepared) -> dict[str, str]:
    """RLE of each image's final mask in the original's pixels."""

    def one(image: tuple[str, MeanMap, bool]) -> str:
        if not image[2]:
            return rle.EMPTY
        return rle.encode(final_mask(image[1].mean(image[0]), prepared.letterbox(image[0]), decision.cut))

    rows = _threaded(one, zip(images.ids, images.maps, drawn.tolist(), strict=True))
    return dict(zip(images.ids, rows, strict=True))


def _threaded(one: Callable, items: Iterable) -> Iterable:
    """`one` of each item in order; OpenCV and NumPy work outside the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(one, items)
