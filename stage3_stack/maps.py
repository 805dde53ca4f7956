"""Stage 2's probability maps: the mean of all segmenters, image by image, from memory-mapped files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr import tables
from cxr.errors import UsageError
from cxr.geometry import resize
from cxr.paths import Paths
from stage3_stack.config import map_folder

STAGE2 = "stage 2 (cd stage2_segment && bash run.sh)"


@dataclass(frozen=True)
class MeanMap:
    """The segmenters' maps of one set of images, averaged as they are read."""

    arrays: list[np.ndarray]
    """uint8 [images, s, s] of each segmenter, memory-mapped; s may differ"""
    rows: list[dict[str, int]]
    """Row of an image in each segmenter's array"""

    @property
    def size(self) -> int:
        """Side of the mean map: the largest segmenter's."""
        return max(array.shape[1] for array in self.arrays)

    def mean(self, image_id: str) -> np.ndarray:
        """Mean map of an image on the full-frame letterbox canvas, uint8 [size, size], probability * 255."""
        size = self.size
        total = np.zeros((size, size), np.float32)
        for array, rows in zip(self.arrays, self.rows, strict=True):
            total += resize(np.asarray(array[rows[image_id]]), size, size)
        return np.rint(total / len(self.arrays)).astype(np.uint8)


def read_maps(paths: Paths, segmenters: list[str], fold: int | None, image_ids: list[str]) -> MeanMap:
    """The maps of a fold's held-out images or, with None, of the test images.

    Raises UsageError where a file, or an image in it, is missing.
    """
    opened = [_open(map_folder(paths, segmenter, fold), image_ids) for segmenter in segmenters]
    return MeanMap([array for array, _ in opened], [rows for _, rows in opened])


def _open(folder: Path, image_ids: list[str]) -> tuple[np.ndarray, dict[str, int]]:
    index = tables.read(folder / "index.parquet", tables.MAP_INDEX, STAGE2)
    if not (folder / "maps.npy").is_file():
        raise UsageError(f"{folder / 'maps.npy'} is missing; it is made by: {STAGE2}")
    maps = np.load(folder / "maps.npy", mmap_mode="r", allow_pickle=False)
    if maps.dtype != np.uint8 or maps.ndim != 3 or maps.shape[1] != maps.shape[2]:
        raise UsageError(f"{folder / 'maps.npy'}: expected uint8 [n, s, s], found {maps.dtype} {maps.shape}")
    rows = dict(zip(index["image_id"], index["row"].tolist(), strict=True))
    missing = [image_id for image_id in image_ids if not 0 <= rows.get(image_id, -1) < len(maps)]
    if missing:
        raise UsageError(f"{folder}: no map of {missing[0]} and {len(missing) - 1} more; run {STAGE2} again")
    return maps, rows
