"""The CSV files beside the images, in the dialects of Kaggle, VGG Image Annotator and the published boxes."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cxr import rle
from phantom.plan import Item

VIA = ("filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
       "region_attributes")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What a made image leaves for the tables: codes (one for each row it gets), box, file's size, chest tube."""

    item: Item
    codes: tuple[str, ...]
    box: tuple[float, float, float, float]
    file_size: int
    chest_tube: bool


def codes_of(mask: np.ndarray, rows: bool) -> tuple[str, ...]:
    """Run-length codes of a mask: one for all of it, or one a region, a single region being cut in two."""
    if not mask.any() or not rows:
        return (rle.encode(mask),)
    count, regions = cv2.connectedComponents(mask.astype(np.uint8))
    parts = [regions == k for k in range(1, count)] if count > 2 else halves(mask)
    return tuple(rle.encode(part) for part in parts)


def halves(mask: np.ndarray) -> list[np.ndarray]:
    """A region cut across its longer side, as a reader who lets go of the mouse does."""
    y, x = np.nonzero(mask)
    tall = np.ptp(y) >= np.ptp(x)
    place = np.arange(len(mask))[:, None] if tall else np.arange(mask.shape[1])[None]
    first = mask & (place <= np.median(y if tall else x))
    return [part for part in (first, mask & ~first) if part.any()]


def write_tables(folder: Path, rows: list[Row], seed: int, jitter: float) -> None:
    """All tables of a data set; rows are ordered by image_id, which tells nothing."""
    train = [row for row in sorted(rows, key=lambda row: row.item.image_id) if row.item.split == "train"]
    test = [row for row in sorted(rows, key=lambda row: row.item.image_id) if row.item.split == "test"]
    labelled = [row for row in train if row.item.labelled]
    # The first release has a blank before each second field; keep it, readers must cope.
    write(
        folder / "train-rle.csv",
        ("ImageId", " EncodedPixels"),
        [(r.item.image_id, f" {c}") for r in labelled for c in r.codes],
    )
    write(folder / "patients.csv", ("ImageId", "patient"), patients(train, seed))
    tubes = [(row.item.image_id, int(row.chest_tube)) for row in [*train, *test]]
    write(folder / "chest_tubes.csv", ("ImageId", "chest_tube"), tubes)
    write(folder / "sample_submission.csv", ("ImageId", "EncodedPixels"), [(r.item.image_id, rle.EMPTY) for r in test])
    write(
        folder / "test-truth.csv", ("ImageId", "EncodedPixels"), [(r.item.image_id, c) for r in test for c in r.codes]
    )
    write(folder / "test-boxes.csv", ("Filename", "xmin", "xmax", "ymin", "ymax"), [published(r) for r in test])
    (folder / "boundingbox_csv").mkdir(exist_ok=True)
    write(
        folder / "boundingbox_csv" / "original_boundingbox.csv",
        VIA,
        [via(r, seed, jitter) for r in train if r.item.hand_box],
    )


def write(path: Path, header: tuple, rows: list) -> None:
    """One CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def patients(train: list[Row], seed: int) -> list[tuple[str, int]]:
    """Image and patient; the numbers are shuffled, so that order tells nothing."""
    names = sorted({row.item.patient for row in train})
    shuffled = dict(zip(names, np.random.default_rng([seed, 6]).permutation(len(names)).tolist(), strict=True))
    return [(row.item.image_id, shuffled[row.item.patient]) for row in train]


def published(row: Row) -> tuple:
    """A true box in the published files' order, whole pixels."""
    xmin, ymin, xmax, ymax = (round(edge) for edge in row.box)
    return f"{row.item.image_id}.png", xmin, xmax, ymin, ymax


def via(row: Row, seed: int, jitter: float) -> tuple:
    """A hand-drawn box: the true one with a reader's unsteady edges; jitter in pixels."""
    rng = np.random.default_rng([seed, 8, row.item.patient, row.item.view])
    xmin, ymin, xmax, ymax = (max(0, round(edge + jitter * rng.normal())) for edge in row.box)
    shape = {"name": "rect", "x": xmin, "y": ymin, "width": xmax - xmin, "height": ymax - ymin}
    return f"{row.item.image_id}.jpg", row.file_size, "{}", 1, 0, json.dumps(shape, separators=(",", ":")), "{}"
