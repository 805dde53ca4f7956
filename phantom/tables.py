"""The CSV files beside the images, in the dialects of Kaggle, VGG Image Annotator and the published boxes."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cxr.imaging import rle
from phantom.plan import PlannedImage

VIA_COLUMNS = ("filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
       "region_attributes")  # fmt: skip


@dataclass(frozen=True)
class TableEntry:
    """What a made image leaves for the tables: codes (one for each row it gets), box, file's size, chest tube."""

    item: PlannedImage
    codes: tuple[str, ...]
    box: tuple[float, float, float, float]
    file_size: int
    has_chest_tube: bool


def encode_mask(mask: np.ndarray, per_region: bool) -> tuple[str, ...]:
    """Run-length codes of a mask: one for all of it, or one a region, a single region being cut in two."""
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
    """All tables of a data set; rows are ordered by image_id, which tells nothing."""
    train = [entry for entry in sorted(entries, key=lambda entry: entry.item.image_id) if entry.item.split == "train"]
    test = [entry for entry in sorted(entries, key=lambda entry: entry.item.image_id) if entry.item.split == "test"]
    labelled = [entry for entry in train if entry.item.is_labelled]
    # The first release has a blank before each second field; keep it, readers must cope.
    write_csv(
        folder / "train-rle.csv",
        ("ImageId", " EncodedPixels"),
        [(entry.item.image_id, f" {code}") for entry in labelled for code in entry.codes],
    )
    write_csv(folder / "patients.csv", ("ImageId", "patient"), shuffle_patients(train, seed))
    tube_rows = [(entry.item.image_id, int(entry.has_chest_tube)) for entry in [*train, *test]]
    write_csv(folder / "chest_tubes.csv", ("ImageId", "chest_tube"), tube_rows)
    write_csv(
        folder / "sample_submission.csv",
        ("ImageId", "EncodedPixels"),
        [(entry.item.image_id, rle.EMPTY) for entry in test],
    )
    write_csv(
        folder / "test-truth.csv",
        ("ImageId", "EncodedPixels"),
        [(entry.item.image_id, code) for entry in test for code in entry.codes],
    )
    write_csv(
        folder / "test-boxes.csv",
        ("Filename", "xmin", "xmax", "ymin", "ymax"),
        [build_box_row(entry) for entry in test],
    )
    (folder / "boundingbox_csv").mkdir(exist_ok=True)
    write_csv(
        folder / "boundingbox_csv" / "original_boundingbox.csv",
        VIA_COLUMNS,
        [build_via_row(entry, seed, jitter) for entry in train if entry.item.has_hand_box],
    )


def write_csv(path: Path, header: tuple, rows: list) -> None:
    """One CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def shuffle_patients(train: list[TableEntry], seed: int) -> list[tuple[str, int]]:
    """Image and patient; the numbers are shuffled, so that order tells nothing."""
    numbers = sorted({entry.item.patient for entry in train})
    shuffled = dict(zip(numbers, np.random.default_rng([seed, 6]).permutation(len(numbers)).tolist(), strict=True))
    return [(entry.item.image_id, shuffled[entry.item.patient]) for entry in train]


def build_box_row(entry: TableEntry) -> tuple:
    """A true box in the published files' order, whole pixels."""
    xmin, ymin, xmax, ymax = (round(edge) for edge in entry.box)
    return f"{entry.item.image_id}.png", xmin, xmax, ymin, ymax


def build_via_row(entry: TableEntry, seed: int, jitter: float) -> tuple:
    """A hand-drawn box: the true one with a reader's unsteady edges; jitter in pixels."""
    rng = np.random.default_rng([seed, 8, entry.item.patient, entry.item.image_number])
    xmin, ymin, xmax, ymax = (max(0, round(edge + jitter * rng.normal())) for edge in entry.box)
    shape = {"name": "rect", "x": xmin, "y": ymin, "width": xmax - xmin, "height": ymax - ymin}
    return f"{entry.item.image_id}.jpg", entry.file_size, "{}", 1, 0, json.dumps(shape, separators=(",", ":")), "{}"
