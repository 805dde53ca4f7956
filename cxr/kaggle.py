"""The Kaggle layout: DICOM files at any depth, the mask rows in either dialect, test ids and patients."""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from cxr.errors import DataError, UsageError
from cxr.walk import File, PassedOver, walk

# The later release comes first: its rows label the earlier one's test images too.
ROWS = ("stage_2_train.csv", "train-rle.csv")
SAMPLES = ("stage_2_sample_submission.csv", "sample_submission.csv")
ROW_COLUMNS = ("ImageId", "EncodedPixels")
PATIENT_COLUMNS = ("ImageId", "patient")
TUBE_COLUMNS = ("ImageId", "chest_tube")
LONGEST_CODE = 1 << 24  # characters of one CSV cell: Python's own limit is shorter than a ragged mask


class Row(NamedTuple):
    """One row of the mask CSV: where it stands, and its run-length code."""

    line: int
    code: str


@dataclass(frozen=True)
class Layout:
    """What lies in a data folder; found by `find`."""

    data: Path
    dicoms: tuple[File, ...]
    rows_csv: Path | None
    sample_csv: Path | None
    patients_csv: Path | None
    passed_over: tuple[PassedOver, ...] = ()
    """DICOM files that cannot be opened, and folders, tables and links that lead nowhere."""

    @property
    def tables(self) -> list[Path]:
        return [path for path in (self.rows_csv, self.sample_csv, self.patients_csv) if path]

    @property
    def digest(self) -> str:
        """SHA-256 of the DICOM files' names, sizes and times, and of what is passed over."""
        lines = [f"{file.path} {file.size} {file.mtime_ns}\n" for file in self.dicoms]
        lines += [f"{each.path} {each.reason}\n" for each in self.passed_over]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    @cached_property
    def images(self) -> dict[str, File]:
        """The DICOM file of each image id; of several with the same bytes, the first.

        Raises DataError where two files of one name differ.
        """
        found: dict[str, File] = {}
        for file in self.dicoms:
            known = found.setdefault(image_id(file.name), file)
            if known is not file and not _same_bytes(self.data / known.path, self.data / file.path):
                raise DataError(f"two different files are named {file.name}: {known.path} and {file.path}")
        return found

    def rows(self) -> dict[str, list[Row]]:
        """The mask rows of each image. Raises DataError where there is no CSV of them, or it is damaged."""
        if self.rows_csv is None:
            raise DataError(
                f"{self.data} has no mask rows: expected train-rle.csv or stage_2_train.csv "
                f"with the columns {', '.join(ROW_COLUMNS)}"
            )
        found: dict[str, list[Row]] = {}
        for line, name, code in _cells(self.rows_csv, ROW_COLUMNS):
            found.setdefault(name, []).append(Row(line, code))
        return found

    def samples(self) -> list[str]:
        """Image ids of the sample submission, in its order; none where there is no such file."""
        return [name for _, name, _ in _cells(self.sample_csv, ROW_COLUMNS)] if self.sample_csv else []

    def patients(self) -> dict[str, str]:
        """The patient of each image, as far as told. Raises DataError where one image has two."""
        found: dict[str, str] = {}
        for line, name, patient in _cells(self.patients_csv, PATIENT_COLUMNS) if self.patients_csv else ():
            if patient and found.setdefault(name, patient) != patient:
                raise DataError(f"{self.patients_csv}, line {line}: image {name} has a second patient")
        return found


def find(data: Path) -> Layout:
    """Look through `data` at any depth; links are followed, hidden files and folders are not.

    Raises UsageError where there is no such folder, DataError where its tables are ambiguous.
    """
    if not data.is_dir():
        raise UsageError(f"the data folder {data} does not exist")
    entries = sorted(walk(data), key=lambda each: each.path)
    files, passed_over = ([each for each in entries if isinstance(each, kind)] for kind in (File, PassedOver))
    if passed_over and not passed_over[0].path:
        raise UsageError(f"the data folder {data} cannot be read: {passed_over[0].reason}")
    tables = [file for file in files if file.name.lower().endswith(".csv")]
    return Layout(
        data, tuple(file for file in files if file.name.lower().endswith(".dcm")),
        _choose(data, tables, ROWS, _may_hold_rows, ROW_COLUMNS),
        _choose(data, tables, SAMPLES, lambda name: "sample_submission" in name, ROW_COLUMNS),
        _choose(data, tables, ("patients.csv",), lambda name: False, PATIENT_COLUMNS),
        tuple(passed_over),
    )  # fmt: skip


def chest_tubes(path: Path) -> dict[str, float]:
    """Whether a chest tube is seen in each image of a table, 1 or 0, as far as told. Raises DataError."""
    found: dict[str, float] = {}
    for line, name, value in _cells(path, TUBE_COLUMNS):
        value = value.removesuffix(".0")  # a column with gaps, as pandas writes it
        if value not in ("0", "1", ""):
            raise DataError(f"{path}, line {line}: chest_tube of image {name} is {value[:20]!r}, not 1, 0 or nothing")
        if value and found.setdefault(name, float(value)) != float(value):
            raise DataError(f"{path}, line {line}: image {name} has a second value")
    return found


def image_id(name: str) -> str:
    """The id of an image file, or of a row that names one."""
    return name[:-4] if name.lower().endswith(".dcm") else name


def split(image: str, file: File, rows: dict[str, list[Row]], samples: set[str]) -> str:
    """train, test or unlabelled: by the rows and the sample submission, by the folder only without the latter."""
    if image in rows:
        if image in samples:
            line = rows[image][0].line
            raise DataError(f"image {image} has a mask row (line {line}) and is in the sample submission")
        return "train"
    in_test = image in samples if samples else "test" in file.path.rpartition("/")[0].lower()
    return "test" if in_test else "unlabelled"


def _may_hold_rows(name: str) -> bool:
    return ("rle" in name or "train" in name) and "submission" not in name and "test" not in name


def _choose(
    data: Path, tables: list[File], known: tuple[str, ...], may_be: Callable[[str], bool], columns: tuple[str, ...]
) -> Path | None:
    """The table of a kind: of the known names the first, else the only other one that has the columns."""
    ranks = [[file for file in tables if file.name.lower() == name] for name in known]
    others = [file for file in tables if may_be(file.name.lower()) and file.name.lower() not in known]
    ranks.append([file for file in others if _positions(_header(data / file.path), columns)])
    candidates = next((rank for rank in ranks if rank), [])
    depth = Counter(file.path.count("/") for file in candidates)
    nearest = [data / file.path for file in candidates if file.path.count("/") == min(depth)]
    if len(nearest) > 1:
        raise DataError(f"which one holds {', '.join(columns)}? {' or '.join(map(str, nearest))}; leave one")
    return nearest[0] if nearest else None


def _cells(path: Path, columns: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    """Line number, image id and value of each row, blanks around them stripped; empty lines are passed over."""
    lines = _lines(path)
    _, header = next(lines, (1, []))
    positions = _positions(header, columns)
    if positions is None:
        raise DataError(f"{path}, line 1: expected the columns {', '.join(columns)}, found {', '.join(header)[:80]!r}")
    for line, cells in lines:
        if len(cells) <= max(positions):
            raise DataError(f"{path}, line {line}: has {len(cells)} of {len(header)} columns")
        name, value = (cells[position].strip() for position in positions)
        if not name:
            raise DataError(f"{path}, line {line}: names no image")
        yield line, image_id(name), value


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(LONGEST_CODE)
    with open(path, encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle, skipinitialspace=True)
        try:
            for cells in reader:
                if any(cells):
                    yield reader.line_num, cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}, after line {reader.line_num}: not a CSV in UTF-8 ({error})") from None


def _header(path: Path) -> list[str]:
    try:
        return next(_lines(path), (1, []))[1]
    except DataError:
        return []


def _positions(header: list[str], columns: tuple[str, ...]) -> tuple[int, ...] | None:
    """Where `columns` stand in a header, None where one is missing; case and blanks do not matter."""
    names = [name.strip().lower() for name in header]
    wanted = [column.lower() for column in columns]
    return tuple(map(names.index, wanted)) if set(wanted) <= set(names) else None


def _same_bytes(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    digests = []
    for path in (one, other):
        with open(path, "rb") as handle:
            digests.append(hashlib.file_digest(handle, "sha256").digest())
    return digests[0] == digests[1]
