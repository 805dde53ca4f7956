"""The images to export, scaled and cropped by several threads; only a batch of them is in memory at a time."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from cxr.datasets.box_table import STAGE0_STEP
from cxr.datasets.prepared import PREPARE_STEP as PREPARE
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError, UsageError
from cxr.imaging.geometry import Box, crop_image, crop_mask
from cxr.progress import ProgressLine

SPLITS = ("train", "test", "unlabelled")  # train: the labelled images
BATCH = 64  # images in memory at a time: mapped pages and results both count as resident memory
FILE_NAME = re.compile(r"\w[\w. -]{0,199}")  # with a layout's suffix a longer one exceeds the 255 bytes of a file name
Result = TypeVar("Result")
cv2.setNumThreads(0)


class Example(NamedTuple):
    """One image to export; mask, label and fold are None where it has no label."""

    image_id: str
    split: str
    image: np.ndarray
    """uint8 [size, size]."""
    mask: np.ndarray | None
    """uint8 [size, size] of 0 or 1."""
    label: int | None
    fold: int | None
    chest_box: Box | None
    """In pixels of `image`; None where it is unknown or the image is cropped to it."""


@dataclass(frozen=True)
class Source:
    """The images of a prepared folder, whole or cropped to the chest box, as squares of `size` pixels."""

    prepared: Prepared
    boxes: dict[str, Box]
    """Chest boxes by image id, in pixels of the originals."""
    size: int
    crop: str
    """box or full."""
    splits: tuple[str, ...] = SPLITS

    def __post_init__(self) -> None:
        """Raise DataError for an id that cannot be a file name, UsageError where boxes or folds are of other data."""
        for image_id in self.prepared.manifest.index:
            if not FILE_NAME.fullmatch(image_id) or len(image_id.encode()) > 200:
                raise DataError(f"image id {image_id!r} cannot name a file everywhere; rename its DICOM file")
            if self.crop == "box" and image_id not in self.boxes:
                raise UsageError(f"image {image_id} has no chest box; the boxes are made by: {STAGE0_STEP}")
        if set(self.prepared.folds.index) != set(self.prepared.list_ids("train")):
            raise UsageError(f"{self.prepared.folder}: its folds are of other images; they are made by: {PREPARE}")

    @property
    def image_counts(self) -> dict[str, int]:
        """Number of images of each split that has any."""
        counts = {split: len(self.prepared.list_ids(split)) for split in self.splits}
        return {split: count for split, count in counts.items() if count}

    @property
    def image_ids(self) -> list[str]:
        """All images, the labelled ones first."""
        return [image_id for split in self.image_counts for image_id in self.prepared.list_ids(split)]

    def fold_ids(self, fold: int) -> list[str]:
        """The labelled images of a fold, in the manifest's order."""
        folds = self.prepared.folds["fold"]
        return [image_id for image_id in self.prepared.list_ids("train") if folds[image_id] == fold]

    def map_examples(self, convert_example: Callable[[Example], Result], image_ids: list[str]) -> Iterator[Result]:
        """convert_example(example) of each image, in the given order; it is called by several threads."""
        line = ProgressLine("export")
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(image_ids), BATCH):
                line.show_progress(f"{start} of {len(image_ids)} images")
                batch_ids = image_ids[start : start + BATCH]
                yield from pool.map(lambda image_id: convert_example(self.load_example(image_id)), batch_ids)
                _unmap_arrays(self.prepared)

    def load_example(self, image_id: str) -> Example:
        """One image, scaled and cropped as it is exported."""
        row, region = self.prepared.manifest.loc[image_id], self._find_region(image_id)
        image = crop_image(self.prepared.read_image(image_id), region, self.size)
        if row["split"] != "train":
            return Example(image_id, row["split"], image, None, None, None, self._find_chest_box(image_id))
        mask = crop_mask(self.prepared.read_mask(image_id), region, self.size)
        fold = int(self.prepared.folds.at[image_id, "fold"])
        return Example(image_id, "train", image, mask, int(row["label"]), fold, self._find_chest_box(image_id))

    def _find_region(self, image_id: str) -> Box:
        """The part of an image that is exported, in pixels of the prepared canvas."""
        frame = Box(0, 0, self.prepared.size, self.prepared.size)
        if self.crop == "full":
            return frame
        box = self.prepared.get_letterbox(image_id).box_to_canvas(self.boxes[image_id])
        return box.clip_to_frame(frame.width, frame.height)

    def _find_chest_box(self, image_id: str) -> Box | None:
        """The chest box in pixels of the exported image; None where it is unknown or the image is cropped to it."""
        if self.crop == "box" or image_id not in self.boxes:
            return None
        box = self.prepared.get_letterbox(image_id).box_to_canvas(self.boxes[image_id])
        return box.scale_and_shift(self.size / self.prepared.size).clip_to_frame(self.size, self.size)


def _unmap_arrays(prepared: Prepared) -> None:
    """Unmap the arrays, because pages that were read count as resident memory; the next access maps them again."""
    for name in ("pixels", "masks"):
        vars(prepared).pop(name, None)
