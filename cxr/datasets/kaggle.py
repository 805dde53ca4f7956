"""The Kaggle layout: DICOM files at any depth, the mask rows in either dialect, test ids and patients."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from cxr.datasets import sample_submission, user_tables
from cxr.datasets.folder_scan import File, SkippedEntry, walk_data_folder
from cxr.datasets.image_ids import parse_image_id
from cxr.datasets.sample_submission import SampleSubmission
from cxr.errors import DataError, UsageError

# The later release comes first: its rows label the earlier one's test images too.
MASK_TABLE_NAMES = ("stage_2_train.csv", "train-rle.csv")
SAMPLE_TABLE_NAMES = ("stage_2_sample_submission.csv", "sample_submission.csv")
ROW_COLUMNS = sample_submission.HEADER
PATIENT_COLUMNS = ("ImageId", "patient")
TUBE_COLUMNS = ("ImageId", "chest_tube")
MAX_SPREADSHEET_CELL = 32_767  # characters that Excel and LibreOffice keep of a cell
# What stands for 'no patient' in tables of pandas, R, spreadsheets and anonymisers; zeros, dashes and the like, too.
NO_PATIENT = re.compile(
    r"|-1(\.0)?|nan|none|null|nil|nat|na|n/a|n\.a\.|#n/a|<na>|missing|undefined|not available|unk|unknown|anon(ym\w*)?"
    r"|\(null\)|\[null\]|'nan'|#(ref|value|name|num|div/0|null)[!?]|empty|missing value|not known"
    r"|-\d+|x{3,}|[0.\-–—_?*#\s]+",
    re.IGNORECASE,
)
LAYOUT_WORDS = {"", "dicom", "dicoms", "dcm", "image", "images", "set", "data", "stage"}  # numbers apart


class MaskRow(NamedTuple):
    """One row of the mask CSV: where it stands, and its run-length code."""

    line: int
    code: str


@dataclass(frozen=True)
class Layout:
    """What lies in a data folder; found by `find_layout`."""

    data: Path
    dicoms: tuple[File, ...]
    rows_csv: Path | None
    sample_csv: Path | None
    patients_csv: Path | None
    skipped_entries: tuple[SkippedEntry, ...] = ()
    """DICOM files that cannot be opened, and folders, tables and links that lead nowhere."""

    @property
    def table_paths(self) -> list[Path]:
        return [path for path in (self.rows_csv, self.sample_csv, self.patients_csv) if path]

    @property
    def files_digest(self) -> str:
        """SHA-256 of the DICOM files' names, sizes and times, and of what is passed over."""
        lines = [f"{file.path} {file.size} {file.mtime_ns}\n" for file in self.dicoms]
        lines += [f"{entry.path} {entry.reason}\n" for entry in self.skipped_entries]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    @cached_property
    def files_by_id(self) -> dict[str, File]:
        """The DICOM file of each image id; of several with the same bytes, the first.

        Raises DataError where two files of one name differ.
        """
        files: dict[str, File] = {}
        for file in self.dicoms:
            first_file = files.setdefault(parse_image_id(file.name), file)
            if first_file is not file and not _have_same_bytes(self.data / first_file.path, self.data / file.path):
                raise DataError(f"two different files are named {file.name}: {first_file.path} and {file.path}")
        return files

    def read_mask_rows(self) -> dict[str, list[MaskRow]]:
        """The mask rows of each image. Raises DataError where there is no CSV of them, or it is damaged."""
        if self.rows_csv is None:
            raise DataError(
                f"{self.data} has no mask rows: expected train-rle.csv or stage_2_train.csv "
                f"with the columns {', '.join(ROW_COLUMNS)}"
            )
        return read_mask_rows(self.rows_csv)

    def read_sample(self) -> SampleSubmission | None:
        """The sample submission; None where there is no such file. Raises DataError where it is damaged."""
        return sample_submission.read_sample_submission(self.sample_csv) if self.sample_csv else None

    def read_sample_ids(self) -> list[str]:
        """Image ids of the sample submission, in its order; none where there is no such file."""
        submission = self.read_sample()
        return submission.ids if submission else []

    def read_patients(self) -> dict[str, str]:
        """The patient of each image, as far as told. Raises DataError where one image has two."""
        counts, patients = self._patient_counts, {}
        for line, name, patient in self._read_patient_cells():
            if is_patient(patient, counts) and patients.setdefault(name, patient) != patient:
                raise DataError(f"{self.patients_csv}, line {line}: image {name} has a second patient")
        return patients

    def count_placeholders(self) -> dict[str, int]:
        """What patients.csv has in place of a patient, and how often; a cell that is empty counts as no row."""
        counts = self._patient_counts
        return {value: count for value, count in counts.items() if value and not is_patient(value, counts)}

    @cached_property
    def _patient_counts(self) -> Counter:
        return Counter(patient for _, _, patient in self._read_patient_cells())

    def _read_patient_cells(self) -> Iterator[tuple[int, str, str]]:
        """Line, image id and cell, as '7' where pandas wrote '7.0', as it does in a column with gaps."""
        for line, name, value in _read_cells(self.patients_csv, PATIENT_COLUMNS) if self.patients_csv else ():
            yield line, name, re.sub(r"(?<=\d)\.0$", "", value)


def find_layout(data: Path) -> Layout:
    """Look through `data` at any depth; links are followed, hidden files and folders are not.

    Raises UsageError where there is no such folder, DataError where its tables are ambiguous.
    """
    if not data.is_dir():
        raise UsageError(f"the data folder {data} does not exist")
    entries = sorted(walk_data_folder(data), key=lambda entry: entry.path)
    files, skipped_entries = (
        [entry for entry in entries if isinstance(entry, entry_type)] for entry_type in (File, SkippedEntry)
    )
    if skipped_entries and not skipped_entries[0].path:
        raise UsageError(f"the data folder {data} cannot be read: {skipped_entries[0].reason}")
    csv_files = [file for file in files if file.name.lower().endswith(".csv")]
    return Layout(
        data, tuple(file for file in files if file.name.lower().endswith(".dcm")),
        _choose_table(data, csv_files, MASK_TABLE_NAMES, _may_hold_rows, ROW_COLUMNS),
        _choose_table(data, csv_files, SAMPLE_TABLE_NAMES, lambda name: "sample_submission" in name, ROW_COLUMNS),
        _choose_table(data, csv_files, ("patients.csv",), lambda name: False, PATIENT_COLUMNS),
        tuple(skipped_entries),
    )  # fmt: skip


def is_patient(text: str, counts: Mapping[str, int]) -> bool:
    """Whether a cell names a patient; 'nan', 'none', '-', '0000' and the like do not.

    counts: how often each cell stands in the column. 0 is a patient where the column numbers patients from 0 without
    many gaps and 0 has no more images than others; else it is a filled blank.
    """
    if NO_PATIENT.fullmatch(text) is None:
        return True
    patient_cells = [cell for cell in counts if NO_PATIENT.fullmatch(cell) is None]
    if (
        not text.isdecimal()
        or not patient_cells
        or not all(cell.isdecimal() and len(cell) < 10 for cell in patient_cells)
    ):
        return False
    is_numbered_from_zero = max(map(int, patient_cells)) <= 2 * len(patient_cells) and len(text) == min(
        map(len, patient_cells)
    )
    return is_numbered_from_zero and counts[text] <= 2 * max(counts[cell] for cell in patient_cells)


def read_mask_rows(path: Path) -> dict[str, list[MaskRow]]:
    """The mask rows of each image of a table ImageId,EncodedPixels. Raises DataError where it is damaged."""
    rows_by_image: dict[str, list[MaskRow]] = {}
    for line, name, code in _read_cells(path, ROW_COLUMNS):
        if len(code) == MAX_SPREADSHEET_CELL:
            raise DataError(
                f"{path}, line {line}: the code of image {name} has just the {MAX_SPREADSHEET_CELL:,} characters that "
                "a spreadsheet keeps of a cell: it was cut; take the table as it was before"
            )
        rows_by_image.setdefault(name, []).append(MaskRow(line, code))
    return rows_by_image


def read_chest_tubes(path: Path) -> dict[str, float]:
    """Whether a chest tube is seen in each image of a table, 1 or 0, as far as told. Raises DataError."""
    has_tube: dict[str, float] = {}
    for line, name, value in _read_cells(path, TUBE_COLUMNS):
        value = value.removesuffix(".0")  # a column with gaps, as pandas writes it
        if NO_PATIENT.fullmatch(value) and value != "0":
            continue
        if value not in ("0", "1"):
            raise DataError(f"{path}, line {line}: chest_tube of image {name} is {value[:20]!r}, not 1, 0 or nothing")
        if has_tube.setdefault(name, float(value)) != float(value):
            raise DataError(f"{path}, line {line}: image {name} has a second value")
    return has_tube


def assign_split(image_id: str, file: File, rows: dict[str, list[MaskRow]], sample_ids: set[str]) -> str:
    """The split of an image: train, test or unlabelled.

    image_id: of the image.
    file: its DICOM file, whose folder decides only where there is no sample submission.
    rows: mask rows by image_id; an image with one is train.
    sample_ids: the images that the sample submission names; empty where there is none.

    Raises DataError for an image that has a mask row and is in the sample submission.
    """
    if image_id in rows:
        if image_id in sample_ids:
            line = rows[image_id][0].line
            raise DataError(f"image {image_id} has a mask row (line {line}) and is in the sample submission")
        return "train"
    is_test = image_id in sample_ids if sample_ids else is_test_folder(file.path)
    return "test" if is_test else "unlabelled"


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


def _choose_table(
    data: Path,
    csv_files: list[File],
    table_names: tuple[str, ...],
    may_match: Callable[[str], bool],
    columns: tuple[str, ...],
) -> Path | None:
    """The table of a kind: of the known names the first, else the only other one that has the columns."""
    ranks = [[file for file in csv_files if file.name.lower() == name] for name in table_names]
    other_files = [file for file in csv_files if may_match(file.name.lower()) and file.name.lower() not in table_names]
    ranks.append(
        [
            file
            for file in other_files
            if user_tables.find_columns(user_tables.read_header_cells(data / file.path), columns)
        ]
    )
    candidates = next((rank for rank in ranks if rank), [])
    depth_counts = Counter(file.path.count("/") for file in candidates)
    nearest_paths = [data / file.path for file in candidates if file.path.count("/") == min(depth_counts)]
    if len(nearest_paths) > 1:
        raise DataError(f"which one holds {', '.join(columns)}? {' or '.join(map(str, nearest_paths))}; leave one")
    return nearest_paths[0] if nearest_paths else None


def _read_cells(path: Path, columns: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    """Line number, image id and value of each row."""
    return ((line, parse_image_id(name), value) for line, name, value in user_tables.read_image_values(path, columns))


def _have_same_bytes(first_path: Path, second_path: Path) -> bool:
    if first_path.stat().st_size != second_path.stat().st_size:
        return False
    digests = []
    for path in (first_path, second_path):
        with open(path, "rb") as handle:
            digests.append(hashlib.file_digest(handle, "sha256").digest())
    return digests[0] == digests[1]
