"""What the doctor reads of one image: header, a small picture, its mask rows. Runs in worker processes.

A JPEG is decoded at down to an eighth of its size, as long as SIDE pixels remain. Its hash then differs from that of
the prepared canvas by at most 4 of 256 bits (measured on 483 radiographs), and decoding takes 2 ms instead of 5.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom

from cxr.datasets import near_duplicates
from cxr.datasets.kaggle import MaskRow
from cxr.imaging import dicom, grayscale, rle
from cxr.imaging.geometry import Letterbox
from cxr.imaging.refusal import limit_memory
from prepare.letterboxed_arrays import parse_age

SIDE = 128  # of the small picture, in pixels
EXTRA_ELEMENTS = ["BurnedInAnnotation", "BodyPartExamined"]  # of the header; no other step needs them


class ScanTask(NamedTuple):
    """One image to scan: its file, and its mask rows, None where it has none."""

    image_id: str
    path: Path
    rows: tuple[MaskRow, ...] | None


class ImageScan(NamedTuple):
    """What was read of an image; None or empty where the file does not hold it, or could not be read that far."""

    refusal_reason: str | None = None
    """Why prepare would leave the image out; None where it is usable."""
    height: int = 0
    width: int = 0
    bits: int = 0
    """BitsStored."""
    photometric: str = ""
    modality: str = ""
    view: str = ""
    sex: str = ""
    age: str = ""
    """PatientAge as it is written."""
    years: float | None = None
    """The same as a number; None where it is no valid age."""
    burned_in: bool = False
    body_part: str = ""
    digest: bytes = b""
    """Of the stored pixel data."""
    signature: np.ndarray | None = None
    thumbnail: np.ndarray | None = None
    """Of `near_duplicates.make_thumbnail`, air dark."""
    area: int = 0
    """Of the union of the image's mask rows, in pixels."""
    overlap: int = 0
    """By how much the rows' areas add up to more than the area of their union, in pixels."""
    bad_rows: tuple[tuple[int, str], ...] = ()
    """(line, reason) of mask rows that are no run-length code."""
    rows_outside: tuple[tuple[int, str], ...] = ()
    """(line, reason) of mask rows that run out of the image."""


def scan_image(task: ScanTask) -> ImageScan:
    """Scan one image; whatever the file holds, nothing is raised."""
    facts: dict = {}
    try:
        with limit_memory():
            header = dicom.read_header(task.path, EXTRA_ELEMENTS)
            facts |= _read_header_facts(header)
            dicom.require_radiograph(header)
            dicom.require_decodable(header)
            facts |= _read_picture_facts(header)
    except dicom.ImageError as error:
        facts["refusal_reason"] = str(error)
    pixels = facts.get("height", 0) * facts.get("width", 0)
    return ImageScan(**facts, **_read_mask_facts(task.rows or (), pixels or None))


def _read_header_facts(header: pydicom.Dataset) -> dict:
    age = dicom.read_code_string(header, "PatientAge")
    return {
        "height": header.get("Rows") or 0, "width": header.get("Columns") or 0, "bits": header.get("BitsStored") or 0,
        "photometric": dicom.read_code_string(header, "PhotometricInterpretation"),
        "modality": dicom.read_code_string(header, "Modality"), "view": dicom.read_code_string(header, "ViewPosition"),
        "sex": dicom.read_code_string(header, "PatientSex"), "age": age, "years": parse_age(age),
        "burned_in": dicom.read_code_string(header, "BurnedInAnnotation") == "YES",
        "body_part": dicom.read_code_string(header, "BodyPartExamined"),
    }  # fmt: skip


def _read_picture_facts(header: pydicom.Dataset) -> dict:
    gray = grayscale.render_gray(header, SIDE)
    with dicom.raise_as_image_error("it cannot be brought to the canvas"):
        canvas = Letterbox(header.Rows, header.Columns, SIDE).image_to_canvas(gray)
    digest = hashlib.blake2b(header.PixelData, digest_size=16).digest()
    return {
        "digest": digest,
        "signature": near_duplicates.compute_signature(canvas),
        "thumbnail": near_duplicates.make_thumbnail(canvas),
    }


def _read_mask_facts(rows: tuple[MaskRow, ...], pixels: int | None) -> dict:
    """Fields area, overlap, bad_rows and rows_outside of ImageScan; pixels: of the image, None where unknown."""
    valid_runs, bad_rows, rows_outside = [], [], []
    for row in rows:
        try:
            runs = rle.parse_runs(row.code)
        except rle.RleError as error:
            bad_rows.append((row.line, str(error)))
            continue
        if pixels and len(runs) and runs[-1, 1] > pixels:
            rows_outside.append((row.line, f"runs to pixel {runs[-1, 1]}, but the image has {pixels}"))
        valid_runs.append(runs)
    area, overlap = _measure_cover(valid_runs)
    return {"area": area, "overlap": overlap, "bad_rows": tuple(bad_rows), "rows_outside": tuple(rows_outside)}


def _measure_cover(rows: list[np.ndarray]) -> tuple[int, int]:
    """Pixels that the runs cover together, and how many more their lengths add up to; rows: runs int64 [n, 2] each."""
    runs = np.concatenate([np.empty((0, 2), np.int64), *rows])
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    covered_until = np.concatenate([[0], np.maximum.accumulate(runs[:, 1])])[: len(runs)]
    area = int(np.clip(runs[:, 1] - np.maximum(runs[:, 0], covered_until), 0, None).sum())
    return area, int((runs[:, 1] - runs[:, 0]).sum()) - area
