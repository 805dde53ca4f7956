"""The probability maps of stage 2 or of the mask stacker, averaged image by image, from memory-mapped files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import tables
from cxr.errors import UsageError
from cxr.geometry import resize
from cxr.paths import Paths
from stage3_stack.config import map_folder, stacked_maps

STAGE2 = "stage 2 (cd stage2_segment && bash run.sh)"
MASK_STACK = "the mask stack (python -m stage3_stack.mask_train)"


@dataclass(frozen=True)
class MeanMap:
    """Several members' maps of one set of images, averaged as they are read."""

    arrays: list[np.ndarray]
    """uint8 [images, s, s] of each member, memory-mapped; s may differ"""
    rows: list[dict[str, int]]
    """Row of an image in each member's array"""
    heads: list[dict[str, float]]
    """Probability of a pneumothorax by each member's label head; NaN where it has none"""

    @property
    def size(self) -> int:
        """Side of the mean map: the largest member's."""
        return max(array.shape[1] for array in self.arrays)

    def each(self, image_id: str, size: int) -> np.ndarray:
        """Every member's map of an image on the full-frame letterbox canvas, uint8 [members, size, size]."""
        pairs = zip(self.arrays, self.rows, strict=True)
        return np.stack([resize(np.asarray(array[rows[image_id]]), size, size) for array, rows in pairs])

    def mean(self, image_id: str) -> np.ndarray:
        """Mean map of an image, uint8 [size, size], probability * 255."""
        return np.rint(self.each(image_id, self.size).mean(axis=0, dtype=np.float32)).astype(np.uint8)

    def head(self, image_id: str) -> float:
        """Mean probability of a pneumothorax by the members that have a label head; NaN where none has one."""
        known = [heads[image_id] for heads in self.heads if not np.isnan(heads[image_id])]
        return float(np.mean(known)) if known else float("nan")


def read_maps(paths: Paths, segmenters: list[str], fold: int | None, image_ids: list[str]) -> MeanMap:
    """The maps of a fold's held-out images or, with None, of the test images.

    Raises UsageError where a file, or an image in it, is missing.
    """
    opened = [_open(map_folder(paths, segmenter, fold), image_ids, STAGE2) for segmenter in segmenters]
    return MeanMap(*map(list, zip(*opened, strict=True)))


def read_stacked(paths: Paths, image_ids: list[str]) -> MeanMap:
    """The mask stacker's maps, of held-out and test images alike; raises as `read_maps`."""
    return MeanMap(*([part] for part in _open(stacked_maps(paths), image_ids, MASK_STACK)))


def _open(folder: Path, image_ids: list[str], made_by: str) -> tuple[np.ndarray, dict[str, int], dict[str, float]]:
    index = tables.read(folder / "index.parquet", tables.MAP_INDEX, made_by)
    if not (folder / "maps.npy").is_file():
        raise UsageError(f"{folder / 'maps.npy'} is missing; it is made by: {made_by}")
    maps = np.load(folder / "maps.npy", mmap_mode="r", allow_pickle=False)
    if maps.dtype != np.uint8 or maps.ndim != 3 or maps.shape[1] != maps.shape[2]:
        raise UsageError(f"{folder / 'maps.npy'}: expected uint8 [n, s, s], found {maps.dtype} {maps.shape}")
    rows = _by_image(index, "row")
    missing = [image_id for image_id in image_ids if not 0 <= rows.get(image_id, -1) < len(maps)]
    if missing:
        raise UsageError(f"{folder}: no map of {missing[0]} and {len(missing) - 1} more; run {made_by} again")
    return maps, rows, _by_image(index, "prob")


def _by_image(index: pd.DataFrame, column: str) -> dict:
    return dict(zip(index["image_id"], index[column].tolist(), strict=True))
