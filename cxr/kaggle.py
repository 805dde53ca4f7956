"""The Kaggle layout: DICOM files at any depth, the mask rows in either dialect, test ids and patients."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from cxr import sample, user_tables
from cxr.errors import DataError, UsageError
from cxr.ids import image_id
from cxr.sample import Sample
from cxr.walk import File, PassedOver, walk

# The later release comes first: its rows label the earlier one's test images too.
ROWS = ("stage_2_train.csv", "train-rle.csv")
SAMPLES = ("stage_2_sample_submission.csv", "sample_submission.csv")
ROW_COLUMNS = sample.HEADER
PATIENT_COLUMNS = ("ImageId", "patient")
TUBE_COLUMNS = ("ImageId", "chest_tube")
SPREADSHEET_CELL = 32_767  # characters that Excel and LibreOffice keep of a cell
# What stands for 'no patient' in tables of pandas, R, spreadsheets and anonymisers; zeros, dashes and the like, too.
NOBODY = re.compile(
    r"|-1(\.0)?|nan|none|null|nil|nat|na|n/a|n\.a\.|#n/a|<na>|missing|undefined|not available|unk|unknown|anon(ym\w*)?"
    r"|\(null\)|\[null\]|'nan'|#(ref|value|name|num|div/0|null)[!?]|empty|missing value|not known"
    r"|-\d+|x{3,}|[0.\-–—_?*#\s]+",
    re.IGNORECASE,
)
LAYOUT_WORDS = {"", "dicom", "dicoms", "dcm", "image", "images", "set", "data", "stage"}  # numbers apart


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
        return read_rows(self.rows_csv)

    def sample(self) -> Sample | None:
        """The sample submission; None where there is no such file. Raises DataError where it is damaged."""
        return sample.read(self.sample_csv) if self.sample_csv else None

    def samples(self) -> list[str]:
        """Image ids of the sample submission, in its order; none where there is no such file."""
        found = self.sample()
        return found.ids if found else []

    def patients(self) -> dict[str, str]:
        """The patient of each image, as far as told. Raises DataError where one image has two."""
        counts, found = self._patient_counts, {}
        for line, name, patient in self._patient_cells():
            if is_patient(patient, counts) and found.setdefault(name, patient) != patient:
                raise DataError(f"{self.patients_csv}, line {line}: image {name} has a second patient")
        return found

    def placeholders(self) -> dict[str, int]:
        """What patients.csv has in place of a patient, and how often; a cell that is empty counts as no row."""
        counts = self._patient_counts
        return {value: count for value, count in counts.items() if value and not is_patient(value, counts)}

    @cached_property
    def _patient_counts(self) -> Counter:
        return Counter(patient for _, _, patient in self._patient_cells())

    def _patient_cells(self) -> Iterator[tuple[int, str, str]]:
        """Line, image id and cell, as '7' where pandas wrote '7.0', as it does in a column with gaps."""
        for line, name, value in _cells(self.patients_csv, PATIENT_COLUMNS) if self.patients_csv else ():
            yield line, name, re.sub(r"(?<=\d)\.0$", "", value)


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


def is_patient(text: str, counts: Mapping[str, int]) -> bool:
    """Whether a cell names a patient; 'nan', 'none', '-', '0000' and the like do not.

    counts: how often each cell stands in the column. Where it numbers patients from 0, without many gaps, and 0 has no
    more images than others, 0 is one of them: to tell a filled blank from it.
    """
    if NOBODY.fullmatch(text) is None:
        return True
    others = [cell for cell in counts if NOBODY.fullmatch(cell) is None]
    if not text.isdecimal() or not others or not all(cell.isdecimal() and len(cell) < 10 for cell in others):
        return False
    from_nought = max(map(int, others)) <= 2 * len(others) and len(text) == min(map(len, others))
    return from_nought and counts[text] <= 2 * max(counts[cell] for cell in others)


def read_rows(path: Path) -> dict[str, list[Row]]:
    """The mask rows of each image of a table ImageId,EncodedPixels. Raises DataError where it is damaged."""
    found: dict[str, list[Row]] = {}
    for line, name, code in _cells(path, ROW_COLUMNS):
        if len(code) == SPREADSHEET_CELL:
            raise DataError(
                f"{path}, line {line}: the code of image {name} has just the {SPREADSHEET_CELL:,} characters that a "
                "spreadsheet keeps of a cell: it was cut; take the table as it was before"
            )
        found.setdefault(name, []).append(Row(line, code))
    return found


def chest_tubes(path: Path) -> dict[str, float]:
    """Whether a chest tube is seen in each image of a table, 1 or 0, as far as told. Raises DataError."""
    found: dict[str, float] = {}
    for line, name, value in _cells(path, TUBE_COLUMNS):
        value = value.removesuffix(".0")  # a column with gaps, as pandas writes it
        if NOBODY.fullmatch(value) and value != "0":
            continue
        if value not in ("0", "1"):
            raise DataError(f"{path}, line {line}: chest_tube of image {name} is {value[:20]!r}, not 1, 0 or nothing")
        if found.setdefault(name, float(value)) != float(value):
            raise DataError(f"{path}, line {line}: image {name} has a second value")
    return found


def split(image: str, file: File, rows: dict[str, list[Row]], samples: set[str]) -> str:
    """train, test or unlabelled: by the rows and the sample submission, by the folder only without the latter."""
    if image in rows:
        if image in samples:
            line = rows[image][0].line
            raise DataError(f"image {image} has a mask row (line {line}) and is in the sample submission")
        return "train"
    in_test = image in samples if samples else is_test_folder(file.path)
    return "test" if in_test else "unlabelled"


def is_test_folder(path: str) -> bool:
    """Whether the innermost folder of a path below the data folder that is called train or test is called test.

    Called so is a folder of that name alone, or with the layout's own words: dicom-images-test, stage_2_test_images.
    """
    for folder in reversed(path.lower().split("/")[:-1]):
        words = set(re.split(r"[\W_\d]+", folder)) - LAYOUT_WORDS
        if words in ({"test"}, {"train"}):
            return words == {"test"}
    return False


def _may_hold_rows(name: str) -> bool:
    return ("rle" in name or "train" in name) and "submission" not in name and "test" not in name


def _choose(
    data: Path, tables: list[File], known: tuple[str, ...], may_be: Callable[[str], bool], columns: tuple[str, ...]
) -> Path | None:
    """The table of a kind: of the known names the first, else the only other one that has the columns."""
    ranks = [[file for file in tables if file.name.lower() == name] for name in known]
    others = [file for file in tables if may_be(file.name.lower()) and file.name.lower() not in known]
    ranks.append([file for file in others if user_tables.positions(user_tables.header(data / file.path), columns)])
    candidates = next((rank for rank in ranks if rank), [])
    depth = Counter(file.path.count("/") for file in candidates)
    nearest = [data / file.path for file in candidates if file.path.count("/") == min(depth)]
    if len(nearest) > 1:
        raise DataError(f"which one holds {', '.join(columns)}? {' or '.join(map(str, nearest))}; leave one")
    return nearest[0] if nearest else None


def _cells(path: Path, columns: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    """Line number, image id and value of each row."""
    return ((line, image_id(name), value) for line, name, value in user_tables.of_images(path, columns))


def _same_bytes(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    digests = []
    for path in (one, other):
        with open(path, "rb") as handle:
            digests.append(hashlib.file_digest(handle, "sha256").digest())
    return digests[0] == digests[1]
