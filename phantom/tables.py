"""The CSV files beside the images, in the dialects of Kaggle, VGG Image Annotator and the published boxes."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cxr.imaging import rle
from phantom.plan import PlannedImage
from phantom.topics import DatasetTopic

VIA_COLUMNS = ("filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
       "region_attributes")  # fmt: skip


@dataclass(frozen=True)
class TableEntry:
    """What the tables need to know about an image that was written."""

    item: PlannedImage
    codes: tuple[str, ...]  # run-length codes, one for each row of the table
    box: tuple[float, float, float, float]  # of the chest: xmin, ymin, xmax, ymax in pixels
    file_size: int  # bytes
    has_chest_tube: bool


def encode_mask(mask: np.ndarray, per_region: bool) -> tuple[str, ...]:
    """Run-length codes of a mask: one for all of it, or one for each region; a single region is cut in two."""
    if not mask.any() or not per_region:
        return (rle.encode_mask(mask),)
    count, regions = cv2.connectedComponents(mask.astype(np.uint8))
    parts = [regions == k for k in range(1, count)] if count > 2 else split_region(mask)
    return tuple(rle.encode_mask(part) for part in parts)


def split_region(mask: np.ndarray) -> list[np.ndarray]:
    """A region cut across its longer side, as a reader who lets go of the mouse does."""
    y, x = np.nonzero(mask)
    is_tall = np.ptp(y) >= np.ptp(x)
    position = np.arange(len(mask))[:, None] if is_tall else np.arange(mask.shape[1])[None]
    first_half = mask & (position <= np.median(y if is_tall else x))
    return [part for part in (first_half, mask & ~first_half) if part.any()]


def write_tables(folder: Path, entries: list[TableEntry], seed: int, jitter: float) -> None:
    """Write all tables of a data set; rows are ordered by image_id, so that their order has no meaning.

    folder: of the data set
    entries: of all images, in any order
    seed: of the data set; patients' numbers and hand-drawn boxes follow from it
    jitter: standard deviation of a hand-drawn edge in pixels
    """
    entries = sorted(entries, key=lambda entry: entry.item.image_id)
    train, test = ([entry for entry in entries if entry.item.split == split] for split in ("train", "test"))
    labelled = [entry for entry in train if entry.item.is_labelled]
    # The first release has a blank before each second field; keep it, readers must cope.
    rows = [(entry.item.image_id, f" {code}") for entry in labelled for code in entry.codes]
    write_csv(folder / "train-rle.csv", ("ImageId", " EncodedPixels"), rows)
    write_csv(folder / "patients.csv", ("ImageId", "patient"), shuffle_patients(train, seed))
    rows = [(entry.item.image_id, int(entry.has_chest_tube)) for entry in [*train, *test]]
    write_csv(folder / "chest_tubes.csv", ("ImageId", "chest_tube"), rows)
    rows = [build_via_row(entry, seed, jitter) for entry in train if entry.item.has_hand_box]
    (folder / "boundingbox_csv").mkdir(exist_ok=True)
    write_csv(folder / "boundingbox_csv" / "original_boundingbox.csv", VIA_COLUMNS, rows)
    write_test_tables(folder, test)


def write_test_tables(folder: Path, test: list[TableEntry]) -> None:
    """Write the sample submission, and the truth of the test images for scoring."""
    mask_columns = ("ImageId", "EncodedPixels")
    empty_rows = [(entry.item.image_id, rle.EMPTY) for entry in test]
    write_csv(folder / "sample_submission.csv", mask_columns, empty_rows)
    truth_rows = [(entry.item.image_id, code) for entry in test for code in entry.codes]
    write_csv(folder / "test-truth.csv", mask_columns, truth_rows)
    box_columns = ("Filename", "xmin", "xmax", "ymin", "ymax")
    write_csv(folder / "test-boxes.csv", box_columns, [build_box_row(entry) for entry in test])


def write_csv(path: Path, header: tuple, rows: list) -> None:
    """Write one CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def shuffle_patients(train: list[TableEntry], seed: int) -> list[tuple[str, int]]:
    """Rows of image and patient; the patients' numbers are shuffled, so that their order has no meaning."""
    numbers = sorted({entry.item.patient for entry in train})
    rng = np.random.default_rng([seed, DatasetTopic.PATIENT_NUMBERS])
    shuffled = dict(zip(numbers, rng.permutation(len(numbers)).tolist(), strict=True))
    return [(entry.item.image_id, shuffled[entry.item.patient]) for entry in train]


def build_box_row(entry: TableEntry) -> tuple:
    """A row with the true box in whole pixels, in the columns' order of the published files."""
    xmin, ymin, xmax, ymax = (round(edge) for edge in entry.box)
    return f"{entry.item.image_id}.png", xmin, xmax, ymin, ymax


def build_via_row(entry: TableEntry, seed: int, jitter: float) -> tuple:
    """A row with a hand-drawn box: the true one with a reader's unsteady edges; jitter in pixels."""
    rng = np.random.default_rng([seed, DatasetTopic.HAND_BOX, entry.item.patient, entry.item.image_number])
    xmin, ymin, xmax, ymax = (max(0, round(edge + jitter * rng.normal())) for edge in entry.box)
    shape = {"name": "rect", "x": xmin, "y": ymin, "width": xmax - xmin, "height": ymax - ymin}
    return f"{entry.item.image_id}.jpg", entry.file_size, "{}", 1, 0, json.dumps(shape, separators=(",", ":")), "{}"
