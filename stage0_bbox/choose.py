"""From detections to chest boxes: the detection or the mean box, grown by the margin; the user's edits win."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr import tables
from cxr.box_files import INSIDE
from cxr.boxes import written_copy
from cxr.errors import DataError
from cxr.geometry import Box
from cxr.ids import image_id
from cxr.prepared import Prepared
from stage0_bbox.config import Config
from stage0_bbox.edits import EDITED, Row, pending

MODEL, FALLBACK = "model", "fallback"


class Found(NamedTuple):
    """The chest of one image in the original's pixels, clipped, without margin."""

    box: Box
    score: float
    source: str


@dataclass(frozen=True)
class Chooser:
    """Turns detections into chest boxes: the detection, or the mean box of the labels where it is too unsure."""

    prepared: Prepared
    detector: Config
    labels: dict[str, Box]
    part: dict[str, int]
    """The model that did not see a labelled image."""

    @cached_property
    def means(self) -> dict[int, np.ndarray]:
        """The mean box, as fractions of the frame [4], of the labels outside each part; under -1 of all."""
        found = {-1: self._mean(self.labels)}
        for number in set(self.part.values()):
            found[number] = self._mean({key: box for key, box in self.labels.items() if self.part[key] != number})
        return found

    def _mean(self, boxes: dict[str, Box]) -> np.ndarray:
        return np.mean([np.array(box) / self.frame(key) for key, box in boxes.items()], axis=0)

    def frame(self, key: str) -> np.ndarray:
        """(width, height, width, height) of an original."""
        row = self.prepared.manifest.loc[key]
        return np.array([row["width"], row["height"]] * 2, float)

    def mean_box(self, key: str) -> Box:
        """What a labelled image's box would be if nothing were known of it; its own part's labels are left out."""
        return Box(*map(float, self.means[self.part.get(key, -1)] * self.frame(key)))

    def choose(self, detections: pd.DataFrame) -> dict[str, Found]:
        """The chest of every image of detect.DETECTIONS."""
        return {key: self._one(key, *map(float, row)) for key, *row in detections.itertuples()}

    def _one(self, key: str, xmin: float, ymin: float, xmax: float, ymax: float, score: float) -> Found:
        box = Box(xmin, ymin, xmax, ymax).clipped(*self.frame(key)[:2])
        if score > 0 and score >= self.detector.score_threshold and box.width >= 1 and box.height >= 1:
            return Found(box, score, MODEL)
        return Found(self.mean_box(key), score, FALLBACK)

    def grown(self, key: str, box: Box) -> Box:
        """A box as the later stages get it: with the margin, clipped, in tenths of a pixel."""
        width, height = self.frame(key)[:2]
        return Box(*(round(float(edge), 1) for edge in box.grown(self.detector.margin).clipped(width, height)))

    def table(self, found: dict[str, Found], edits: dict[str, Row], path: Path) -> pd.DataFrame:
        """tables.BOXES; `edits` are rows of `path`, kept as they are. DataError names a row outside its image."""
        rows = [self._row(key, one, edits.get(key), path) for key, one in found.items()]
        return pd.DataFrame(rows, columns=list(tables.BOXES))

    def _row(self, key: str, found: Found, edit: Row | None, path: Path) -> tuple:
        box, source = (edit.box, EDITED) if edit else (self.grown(key, found.box), found.source)
        width, height = self.frame(key)[:2]
        inside = box.clipped(width, height)
        if edit and (inside.area <= 0 or inside.area < INSIDE * box.area):
            raise DataError(
                f"{path}, row {edit.line} ({key}): the box lies outside its image ({width:.0f} x {height:.0f})"
            )
        return f"{key}.png", box.xmin, box.xmax, box.ymin, box.ymax, round(found.score, 4), source


def write(table: pd.DataFrame, path: Path, boxes: Path) -> None:
    """Write the run's `boxes`, the table to look at and edit, `path`, and beside it what the next edits are told by.

    A crash in between turns no box into an edit: until the copy is renamed, either version counts as ours.
    """
    tables.write(table, pending(path), tables.BOXES)
    tables.write(table, path, tables.BOXES)
    tables.write(table, boxes, tables.BOXES)
    os.replace(pending(path), written_copy(path))


def dropped(edits: dict[str, Row], table: pd.DataFrame) -> list[str]:
    """Images with an edited box that the data does not hold."""
    return sorted(edits.keys() - set(map(image_id, table["Filename"])))
