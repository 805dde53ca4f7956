"""Boxes that the user edited in boundingbox_csv/<dataset>.csv: found, checked, and part of the step's identity.

A row is edited if its source is 'edited', or if its box differs from what the last run of any recipe wrote; a hidden
copy of that lies next to the file. No pandas here: this runs whenever a step checks whether it is up to date.
"""

import fcntl
import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cxr.datasets import user_tables
from cxr.datasets.box_table import written_copy_path
from cxr.datasets.image_ids import parse_image_id
from cxr.errors import DataError
from cxr.files import write_atomically
from cxr.imaging.geometry import Box

COLUMNS = ("Filename", "xmin", "xmax", "ymin", "ymax")
EDITED = "edited"


class BoxRow(NamedTuple):
    """One box of the table, in the original's pixels, and its line in the file."""

    box: Box
    source: str
    line: int


def read_box_rows(path: Path) -> dict[str, BoxRow]:
    """Rows by image_id; none where the file is absent or empty. DataError names the file and the row at fault."""
    if not path.is_file() or not path.stat().st_size:
        return {}
    header = user_tables.normalise_columns(next(user_tables.read_lines(path), (1, []))[1])
    missing_columns = [name for name in COLUMNS if name.lower() not in header]
    if missing_columns:
        names = ", ".join(missing_columns)
        raise DataError(f"{path}: column {names} is missing; mend it, or delete it to have it made anew")
    rows: dict[str, BoxRow] = {}
    for line, values in user_tables.read_records(path):
        key, row = parse_image_id(values["filename"]), _parse_box_row(values, path, line)
        if key in rows:
            raise DataError(f"{path}, row {row.line}: {key} stands there twice (first in row {rows[key].line})")
        rows[key] = row
    return rows


def _parse_box_row(values: dict[str, str], path: Path, line: int) -> BoxRow:
    location = f"{path}, row {line} ({values['filename']})"
    try:
        xmin, xmax, ymin, ymax = (user_tables.parse_number(values[name]) for name in COLUMNS[1:])
    except ValueError as error:
        raise DataError(f"{location}: an edge of the box is not a number ({error})") from None
    box = Box(xmin, ymin, xmax, ymax)
    if not all(map(math.isfinite, box)) or xmin >= xmax or ymin >= ymax:
        raise DataError(f"{location}: needs xmin < xmax and ymin < ymax, has {box}")
    return BoxRow(box, values.get("source", ""), line)


def find_edits(path: Path) -> dict[str, BoxRow]:
    """The edited rows of the table, by image_id."""
    pending_rows = _read_written_copy(pending_copy(path))
    model_rows = {key: row for key, row in pending_rows.items() if row.source != EDITED}
    written_versions = [_read_written_copy(written_copy_path(path)), model_rows]
    return {
        key: row
        for key, row in read_box_rows(path).items()
        if row.source == EDITED or _is_changed(key, row, written_versions)
    }


def _read_written_copy(copy: Path) -> dict[str, BoxRow]:
    """The rows that a run wrote; none where the copy is missing or truncated."""
    return read_box_rows(copy) if copy.is_file() and copy.read_bytes().endswith(b"\n") else {}


def _is_changed(key: str, row: BoxRow, written_versions: list[dict[str, BoxRow]]) -> bool:
    written_boxes = [version[key].box for version in written_versions if key in version]
    return bool(written_boxes) and not any(_is_same_box(row.box, box) for box in written_boxes)


def _is_same_box(a: Box, b: Box) -> bool:
    return all(abs(edge - other_edge) < 1e-3 for edge, other_edge in zip(a, b, strict=True))


def pending_copy(path: Path) -> Path:
    """The copy of the table that a run is writing to `path`; it remains only if the run was interrupted."""
    return path.with_name(f".{path.stem}.writing.csv")


def digest_edits(path: Path) -> str:
    """Digest of the edited boxes alone, so that a run which writes the table does not change it."""
    edges = sorted((key, *(round(edge, 3) for edge in row.box)) for key, row in find_edits(path).items())
    return hashlib.sha256(repr(edges).encode()).hexdigest() if edges else ""


def is_table_complete(path: Path, boxes_csv: Path) -> bool:
    """Whether the table to edit, `path`, has a row for each image of a run's own `boxes_csv`."""
    if not boxes_csv.is_file():
        return False
    return read_box_rows(boxes_csv).keys() <= read_box_rows(path).keys() and bool(
        _read_written_copy(written_copy_path(path))
    )


@contextmanager
def lock_table(path: Path) -> Iterator[None]:
    """Lock the table, which all recipes of a dataset write; waits while another run holds the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.stem}.lock"), "a+") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX)
        yield


def restore_cut_table(path: Path) -> None:
    """Restore the table if it ends in the middle of a row that a run wrote: it was truncated, not edited."""
    if path.is_file() and written_copy_path(path).is_file():
        content, written_content = path.read_bytes(), written_copy_path(path).read_bytes()
        lost_tail = written_content[len(content) :]  # if it begins at a row's end, the user deleted the last rows
        is_cut_within_row = lost_tail.strip() == b"" or not lost_tail.startswith((b"\n", b"\r"))
        if written_content.startswith(content) and not content.endswith(b"\n") and is_cut_within_row:
            with write_atomically(path) as temporary:
                temporary.write_bytes(written_content)


def is_complete_jpeg(path: Path) -> bool:
    """Whether a JPEG is there to its end. Its digest is not compared: all runs on a dataset draw the same file."""
    return path.is_file() and path.read_bytes()[-2:] == b"\xff\xd9"
