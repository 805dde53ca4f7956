"""From a DICOM file to its row in the memory-mapped pixels and masks; runs in prepare's worker processes.

Rows are written to their place in the file, not through a mapping: a mapping would count every
page of the pixels as resident memory, and a full disk would kill the process instead of raising.
"""

import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.lib import format as npy

from cxr.errors import DataError, UsageError
from cxr.imaging import dicom, grayscale, rle
from cxr.imaging.geometry import Letterbox

cv2.setNumThreads(0)
AGE_UNITS = {"Y": 1, "M": 12, "W": 52.18, "D": 365.25}
MAX_AGE_DIGITS = 6  # digits; the standard has 3, damaged headers hundreds
MAX_AGE = 120  # the NIH radiographs hold ages of up to 414: typing errors


class RowError(ValueError):
    """The array to write is not one row of the file: it would overwrite the rows beside it, other patients' images."""


class RowFile(NamedTuple):
    """An .npy file of uint8 rows of one shape, [rows, *shape]."""

    path: Path
    shape: tuple[int, int]

    @property
    def row_bytes(self) -> int:
        return self.shape[0] * self.shape[1]

    def allocate_file(self, count: int) -> None:
        """Make the file, its disk space taken; UsageError where the disk has not enough."""
        with open(self.path, "wb") as handle:
            self._write_header(handle, count)
            data_start = handle.tell()
            try:
                os.posix_fallocate(handle.fileno(), 0, data_start + count * self.row_bytes)
            except OSError as error:
                needed_gb = count * self.row_bytes / 1e9
                raise UsageError(f"{self.path.parent}: no room for {needed_gb:.1f} GB ({error.strerror})") from None

    def _write_header(self, handle, count: int) -> None:
        """numpy leaves room in the header for the count to change: its length depends on the shape alone."""
        npy.write_array_header_1_0(handle, {"descr": "|u1", "fortran_order": False, "shape": (count, *self.shape)})

    def write_row(self, row: int, values: np.ndarray) -> None:
        """Write one row, uint8 of `shape`. Raises RowError for any other type, shape or place, nothing written."""
        if values.dtype != np.uint8 or values.shape != self.shape:
            raise RowError(f"a row is uint8 of {self.shape}, not {values.dtype} of {values.shape}")
        with open(self.path, "r+b") as handle:
            count, *shape = self._skip_header(handle)
            if tuple(shape) != self.shape or not 0 <= row < count:
                raise RowError(f"there is no row {row} among {count} of {tuple(shape)}")
            handle.seek(row * self.row_bytes, os.SEEK_CUR)
            handle.write(np.ascontiguousarray(values).data)

    def keep_rows(self, row_numbers: list[int]) -> None:
        """Close the gaps: the rows `row_numbers`, ascending, become rows 0, 1, ..., and the file ends there."""
        with open(self.path, "r+b") as handle:
            self._skip_header(handle)
            data_start = handle.tell()
            for row, old_row in enumerate(row_numbers):
                if row != old_row:
                    handle.seek(data_start + old_row * self.row_bytes)
                    values = handle.read(self.row_bytes)
                    handle.seek(data_start + row * self.row_bytes)
                    handle.write(values)
            handle.truncate(data_start + len(row_numbers) * self.row_bytes)
            handle.seek(0)
            self._write_header(handle, len(row_numbers))
            if handle.tell() != data_start:
                raise RuntimeError("numpy changed the length of an .npy header")

    @staticmethod
    def _skip_header(handle) -> tuple[int, ...]:
        """Go to the first row; the array's shape."""
        npy.read_magic(handle)
        return npy.read_array_header_1_0(handle)[0]


class PrepareTask(NamedTuple):
    """One image: its file, its mask rows as (place in the CSV, code), None where unlabelled, and where it goes."""

    image_id: str
    path: Path
    codes: tuple[tuple[str, str], ...] | None
    pixels: RowFile
    row: int
    masks: RowFile
    mask_row: int


class ManifestEntry(NamedTuple):
    """What the manifest says of an image; rle is None, and mask_area 0, where it is unlabelled."""

    height: int
    width: int
    age: float | None
    sex: str | None
    view: str | None
    rle: str | None
    mask_area: int


def prepare_image(task: PrepareTask) -> ManifestEntry | str:
    """Write the image's canvas and mask; the reason, in words, where its DICOM is refused.

    Raises DataError that names the row whose run-length code is bad.
    """
    try:
        letterbox, patient_fields = _prepare_pixels(task)
    except (dicom.ImageError, RowError) as error:
        return str(error)
    return ManifestEntry(letterbox.height, letterbox.width, *patient_fields, *_prepare_mask(task, letterbox))


def _prepare_pixels(task: PrepareTask) -> tuple[Letterbox, tuple[float | None, str | None, str | None]]:
    """Write the image's canvas; how it lies there, and what the header says of the patient."""
    size = task.pixels.shape[0]
    gray, header = grayscale.read_radiograph(task.path, min_longer_side=size)
    with dicom.raise_as_image_error("it cannot be brought to the canvas"):
        letterbox = Letterbox(header.Rows, header.Columns, size)
        canvas = letterbox.image_to_canvas(gray)
    task.pixels.write_row(task.row, canvas)
    return letterbox, _read_patient_fields(header)


def _prepare_mask(task: PrepareTask, letterbox: Letterbox) -> tuple[str | None, int]:
    """Write the image's mask, if it has one; the code and the area of the union of its rows."""
    if task.codes is None:
        return None, 0
    runs = _merge_runs(
        [_parse_mask_runs(task, location, code, letterbox.height * letterbox.width) for location, code in task.codes]
    )
    if not len(runs):
        return rle.EMPTY, 0
    code = _encode_runs(runs)
    mask = rle.decode_mask(code, letterbox.height, letterbox.width)
    task.masks.write_row(task.mask_row, np.packbits(shrink_mask(mask, letterbox), axis=-1))
    return code, int((runs[:, 1] - runs[:, 0]).sum())


def _parse_mask_runs(task: PrepareTask, location: str, code: str, pixels: int) -> np.ndarray:
    try:
        return rle.parse_runs(code, pixels)
    except rle.RleError as error:
        raise DataError(f"{location}: the run-length code of image {task.image_id} {error}") from None


def _merge_runs(runs_of_rows: list[np.ndarray]) -> np.ndarray:
    """The union of `runs_of_rows` as runs that do not touch; int64 [n, 2], start and end (exclusive).

    Merging runs takes a hundredth of the time of merging masks pixel by pixel.
    """
    runs = np.concatenate(runs_of_rows)
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    ends = np.maximum.accumulate(runs[:, 1])
    is_first = np.concatenate([[True], runs[1:, 0] > ends[:-1]])[: len(runs)]
    is_last = np.concatenate([is_first[1:], [True]])[: len(runs)]
    return np.stack([runs[is_first, 0], ends[is_last]], axis=1)


def _encode_runs(runs: np.ndarray) -> str:
    """The run-length code of runs as `_merge_runs` gives them."""
    offsets = runs[:, 0] - np.concatenate([[0], runs[:-1, 1]])
    return " ".join(map(str, np.stack([offsets, runs[:, 1] - runs[:, 0]], axis=1).ravel().tolist()))


def shrink_mask(mask: np.ndarray, letterbox: Letterbox) -> np.ndarray:
    """A non-empty mask on the canvas, bool [size, size]; never empty: one pixel stays of what would vanish."""
    canvas = letterbox.image_to_canvas(mask.astype(np.uint8) * 255) > 127
    if not canvas.any():
        share = letterbox.image_to_canvas(mask.astype(np.float32))
        canvas.ravel()[share.argmax()] = True
    return canvas


def _read_patient_fields(header) -> tuple[float | None, str | None, str | None]:
    """Age in years, sex (M or F) and view of a header; None where it says nothing usable."""
    age, sex, view = (dicom.read_code_string(header, name) for name in ("PatientAge", "PatientSex", "ViewPosition"))
    return parse_age(age), sex if sex in ("M", "F") else None, None if view == dicom.HIDDEN else view or None


def parse_age(text: str) -> float | None:
    """'045Y', '018M' (months; W weeks, D days) or a plain '45'; None for anything else, or above 120."""
    text = text.strip().upper()
    number, unit = (text[:-1], text[-1]) if text[-1:] in AGE_UNITS else (text, "Y")
    if not number.isdecimal() or len(number) > MAX_AGE_DIGITS:
        return None
    age = int(number) / AGE_UNITS[unit]
    return age if age <= MAX_AGE else None
