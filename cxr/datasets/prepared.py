"""The prepared data as the stages see it: canvases, masks and tables, by image_id."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import tables
from cxr.errors import UsageError
from cxr.imaging import rle
from cxr.imaging.geometry import Letterbox

PREPARE_STEP = "prepare (python -m prepare)"


@dataclass(frozen=True)
class Prepared:
    """A prepared folder, opened read-only, and a run's folds of it; pixels and masks stay mapped on the disk."""

    folder: Path
    folds_csv: Path | None = None

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """tables.MANIFEST, indexed by image_id."""
        table = tables.read_table(self.folder / "manifest.parquet", tables.MANIFEST, PREPARE_STEP)
        return table.set_index("image_id", drop=False)

    @cached_property
    def folds(self) -> pd.DataFrame:
        """tables.FOLDS, indexed by image_id: the labelled training images."""
        if self.folds_csv is None:
            raise UsageError(f"{self.folder} was opened without folds")
        return tables.read_table(self.folds_csv, tables.FOLDS, PREPARE_STEP).set_index("image_id", drop=False)

    @property
    def fold_count(self) -> int:
        """How many folds there are."""
        return int(self.folds["fold"].max()) + 1

    @cached_property
    def index(self) -> pd.DataFrame:
        """tables.INDEX, indexed by image_id."""
        table = tables.read_table(self.folder / "index.parquet", tables.INDEX, PREPARE_STEP)
        return table.set_index("image_id", drop=False)

    @cached_property
    def _rows_by_id(self) -> dict[str, tuple[int, int]]:
        return dict(zip(self.index.index, zip(self.index["row"], self.index["mask_row"], strict=True), strict=True))

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 [images, size, size], memory-mapped."""
        return self._map_file("pixels.npy")

    @cached_property
    def masks(self) -> np.ndarray:
        """Packed bits [masks, size, size / 8], memory-mapped."""
        return self._map_file("masks.npy")

    def _map_file(self, name: str) -> np.ndarray:
        path = self.folder / name
        if not path.is_file():
            raise UsageError(f"{path} is missing; it is made by: {PREPARE_STEP}")
        return np.load(path, mmap_mode="r", allow_pickle=False)

    @property
    def size(self) -> int:
        return self.pixels.shape[1]

    def read_image(self, image_id: str) -> np.ndarray:
        """Canvas of an image, uint8 [size, size]."""
        return np.array(self.pixels[self._rows_by_id[image_id][0]])

    def read_mask(self, image_id: str) -> np.ndarray:
        """Canvas of the hand-drawn mask, uint8 [size, size] of 0 or 1; all 0 where there is none."""
        row = self._rows_by_id[image_id][1]
        if row < 0:
            return np.zeros((self.size, self.size), np.uint8)
        return np.unpackbits(self.masks[row], axis=-1)

    def get_letterbox(self, image_id: str) -> Letterbox:
        """How the original of an image lies on its canvas."""
        row = self.manifest.loc[image_id]
        return Letterbox(int(row["height"]), int(row["width"]), self.size)

    def read_original_mask(self, image_id: str) -> np.ndarray:
        """The hand-drawn mask in the original's pixels, bool [height, width]."""
        row = self.manifest.loc[image_id]
        return rle.decode_mask(row["rle"] or rle.EMPTY, int(row["height"]), int(row["width"]))

    def list_ids(self, split: str) -> list[str]:
        """The images of a split: train, unlabelled or test."""
        return self.manifest.index[self.manifest["split"] == split].tolist()

    def split_fold(self, fold: int, validates: bool) -> tuple[list[str], list[str], list[str]]:
        """Images to train on, to validate on, and held out to be scored, of a fold.

        validates: whether the training picks an epoch, lowers a rate or stops by its score on the marked patients of
        the training folds, with all their images; else it trains on these too, and nobody is validated on. Never is
        an image of the fold that is scored among either.
        """
        folds = self.folds
        is_held_out = folds["fold"] == fold
        is_val = ~is_held_out & folds["val"] & validates
        parts = (~is_held_out & ~is_val, is_val, is_held_out)
        return tuple(folds.index[part].tolist() for part in parts)

    def read_labels(self, image_ids: list[str]) -> np.ndarray:
        """Labels as float32 of 0 or 1, in the order given."""
        return self.manifest.loc[image_ids, "label"].to_numpy(np.float32)
