"""From detections to chest boxes: the detection or the mean box, grown by the margin; the user's edits win."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr import tables
from cxr.datasets.box_annotations import MIN_INSIDE_SHARE
from cxr.datasets.box_table import written_copy_path
from cxr.datasets.image_ids import parse_image_id
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError
from cxr.imaging.geometry import Box
from stage0_bbox.box_edits import EDITED, BoxRow, pending_copy
from stage0_bbox.config import DetectorConfig

MODEL, FALLBACK = "model", "fallback"


class ChestBox(NamedTuple):
    """The chest of one image in the original's pixels, clipped, without margin."""

    box: Box
    score: float
    source: str


@dataclass(frozen=True)
class ChestBoxChooser:
    """Turns detections into chest boxes: the detection, or the mean box of the labels where it is too unsure."""

    prepared: Prepared
    detector: DetectorConfig
    labels: dict[str, Box]
    fold_by_image: dict[str, int]
    """For each labelled image, the cross-validation's model that was trained without it."""

    @cached_property
    def mean_boxes(self) -> dict[int, np.ndarray]:
        """By fold, the mean box of the labels outside it, as fractions of the frame [4]; key -1: of all labels."""
        mean_by_fold = {-1: self._mean_relative_box(self.labels)}
        for fold in set(self.fold_by_image.values()):
            boxes = {key: box for key, box in self.labels.items() if self.fold_by_image[key] != fold}
            mean_by_fold[fold] = self._mean_relative_box(boxes)
        return mean_by_fold

    def _mean_relative_box(self, boxes: dict[str, Box]) -> np.ndarray:
        return np.mean([np.array(box) / self.frame_extent(key) for key, box in boxes.items()], axis=0)

    def frame_extent(self, key: str) -> np.ndarray:
        """(width, height, width, height) of an original."""
        row = self.prepared.manifest.loc[key]
        return np.array([row["width"], row["height"]] * 2, float)

    def mean_box(self, key: str) -> Box:
        """The mean box of the labels, in the image's pixels; for a labelled image without the labels of its fold."""
        return Box(*map(float, self.mean_boxes[self.fold_by_image.get(key, -1)] * self.frame_extent(key)))

    def choose_boxes(self, detections: pd.DataFrame) -> dict[str, ChestBox]:
        """The chest of every image of detect.DETECTIONS."""
        return {key: self._choose_box(key, *map(float, row)) for key, *row in detections.itertuples()}

    def _choose_box(self, key: str, xmin: float, ymin: float, xmax: float, ymax: float, score: float) -> ChestBox:
        box = Box(xmin, ymin, xmax, ymax).clip_to_frame(*self.frame_extent(key)[:2])
        if score > 0 and score >= self.detector.score_threshold and box.width >= 1 and box.height >= 1:
            return ChestBox(box, score, MODEL)
        return ChestBox(self.mean_box(key), score, FALLBACK)

    def grow_box(self, key: str, box: Box) -> Box:
        """A box as the later stages get it: with the margin, clipped, in tenths of a pixel."""
        width, height = self.frame_extent(key)[:2]
        grown_box = box.grow_by_margin(self.detector.margin).clip_to_frame(width, height)
        return Box(*(round(float(edge), 1) for edge in grown_box))

    def build_table(self, chest_boxes: dict[str, ChestBox], edits: dict[str, BoxRow], path: Path) -> pd.DataFrame:
        """The table of tables.BOXES, a row for each image.

        chest_boxes: of every image, by image_id
        edits: the user's rows by image_id, which are kept as they are
        path: the table that the edits were read from, for messages
        Raises DataError that names the row of an edit outside its image.
        """
        rows = [self._box_row(key, chest_box, edits.get(key), path) for key, chest_box in chest_boxes.items()]
        return pd.DataFrame(rows, columns=list(tables.BOXES))

    def _box_row(self, key: str, chest_box: ChestBox, edit: BoxRow | None, path: Path) -> tuple:
        box, source = (edit.box, EDITED) if edit else (self.grow_box(key, chest_box.box), chest_box.source)
        width, height = self.frame_extent(key)[:2]
        clipped_box = box.clip_to_frame(width, height)
        if edit and (clipped_box.area <= 0 or clipped_box.area < MIN_INSIDE_SHARE * box.area):
            raise DataError(
                f"{path}, row {edit.line} ({key}): the box lies outside its image ({width:.0f} x {height:.0f})"
            )
        return f"{key}.png", box.xmin, box.xmax, box.ymin, box.ymax, round(chest_box.score, 4), source


def write_box_tables(table: pd.DataFrame, path: Path, boxes_csv: Path) -> None:
    """Write the run's `boxes_csv`, the table to edit, `path`, and its hidden copy, by which edits are recognised later.

    A crash in between turns no box into an edit: until the pending copy is renamed, both versions count as ours.
    """
    tables.write_table(table, pending_copy(path), tables.BOXES)
    tables.write_table(table, path, tables.BOXES)
    tables.write_table(table, boxes_csv, tables.BOXES)
    os.replace(pending_copy(path), written_copy_path(path))


def find_dropped_edits(edits: dict[str, BoxRow], table: pd.DataFrame) -> list[str]:
    """Image ids that have an edited box but are not in the data."""
    return sorted(edits.keys() - set(map(parse_image_id, table["Filename"])))
