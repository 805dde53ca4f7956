"""The probability maps of stage 2 or of the mask stacker, averaged image by image, from memory-mapped files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import tables
from cxr.errors import UsageError
from cxr.imaging.geometry import resize_image
from cxr.paths import Paths
from stage3_stack.config.files import MASK_STACK, STAGE2, map_folder, stacked_map_folder


@dataclass(frozen=True)
class MeanMap:
    """Several members' maps of one set of images, averaged as they are read."""

    arrays: list[np.ndarray]
    """uint8 [images, s, s] of each member, memory-mapped; s may differ"""
    image_rows: list[dict[str, int]]
    """Row of an image in each member's array"""
    member_head_probs: list[dict[str, float]]
    """Probability of a pneumothorax by each member's label head; NaN where it has none"""

    @property
    def size(self) -> int:
        """Side of the mean map: the largest member's."""
        return max(array.shape[1] for array in self.arrays)

    def read_members(self, image_id: str, size: int) -> np.ndarray:
        """Each member's map of an image on the full-frame letterbox canvas, uint8 [members, size, size]."""
        pairs = zip(self.arrays, self.image_rows, strict=True)
        return np.stack(
            [resize_image(np.asarray(array[row_of_image[image_id]]), size, size) for array, row_of_image in pairs]
        )

    def read_mean(self, image_id: str) -> np.ndarray:
        """Mean map of an image, uint8 [size, size], probability * 255."""
        return np.rint(self.read_members(image_id, self.size).mean(axis=0, dtype=np.float32)).astype(np.uint8)

    def mean_head_prob(self, image_id: str) -> float:
        """Mean probability of a pneumothorax by the members that have a label head; NaN where none has one."""
        probs = [
            prob_of_image[image_id] for prob_of_image in self.member_head_probs if not np.isnan(prob_of_image[image_id])
        ]
        return float(np.mean(probs)) if probs else float("nan")


def read_maps(paths: Paths, segmenters: list[str], fold: int | None, image_ids: list[str]) -> MeanMap:
    """The maps of a fold's held-out images or of the test images.

    paths: the folders of the run
    segmenters: names of the members to average
    fold: whose held-out images they are; None for the test images
    image_ids: the images that must be there

    Raises UsageError if a file, or an image in it, is missing.
    """
    member_maps = [_open_maps(map_folder(paths, segmenter, fold), image_ids, STAGE2) for segmenter in segmenters]
    return MeanMap(*map(list, zip(*member_maps, strict=True)))


def read_stacked_maps(paths: Paths, image_ids: list[str]) -> MeanMap:
    """The mask stacker's maps, of held-out and test images; raises UsageError as `read_maps` does."""
    return MeanMap(*([field] for field in _open_maps(stacked_map_folder(paths), image_ids, MASK_STACK)))


def _open_maps(folder: Path, image_ids: list[str], made_by: str) -> tuple[np.ndarray, dict[str, int], dict[str, float]]:
    index = tables.read_table(folder / "index.parquet", tables.MAP_INDEX, made_by)
    if not (folder / "maps.npy").is_file():
        raise UsageError(f"{folder / 'maps.npy'} is missing; it is made by: {made_by}")
    maps = np.load(folder / "maps.npy", mmap_mode="r", allow_pickle=False)
    if maps.dtype != np.uint8 or maps.ndim != 3 or maps.shape[1] != maps.shape[2]:
        raise UsageError(f"{folder / 'maps.npy'}: expected uint8 [n, s, s], found {maps.dtype} {maps.shape}")
    row_of_image = _column_by_image(index, "row")
    missing = [image_id for image_id in image_ids if not 0 <= row_of_image.get(image_id, -1) < len(maps)]
    if missing:
        raise UsageError(f"{folder}: no map of {missing[0]} and {len(missing) - 1} more; run {made_by} again")
    return maps, row_of_image, _column_by_image(index, "prob")


def _column_by_image(index: pd.DataFrame, column: str) -> dict:
    return dict(zip(index["image_id"], index[column].tolist(), strict=True))
