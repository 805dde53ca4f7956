"""Boxes that the user edited in boundingbox_csv/<dataset>.csv: found, checked, and part of the step's identity.

Edited is a row marked so, or one whose box differs from what the last run wrote, of whichever recipe; a copy of that is
kept beside the file, hidden. Reads without pandas: this runs whenever a step asks whether it is up to date.
"""

import fcntl
import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cxr import user_tables
from cxr.boxes import written_copy
from cxr.errors import DataError
from cxr.files import replacing
from cxr.geometry import Box
from cxr.ids import image_id

COLUMNS = ("Filename", "xmin", "xmax", "ymin", "ymax")
EDITED = "edited"


class Row(NamedTuple):
    """One box of the table, in the original's pixels, and the line of the file that it stands in."""

    box: Box
    source: str
    line: int


def read(path: Path) -> dict[str, Row]:
    """Rows by image_id; none where the file is absent or empty. DataError names the file and the row at fault."""
    if not path.is_file() or not path.stat().st_size:
        return {}
    header = user_tables.columns(next(user_tables.lines(path), (1, []))[1])
    missing = [name for name in COLUMNS if name.lower() not in header]
    if missing:
        raise DataError(f"{path}: column {', '.join(missing)} is missing; mend it, or delete it to have it made anew")
    found: dict[str, Row] = {}
    for line, values in user_tables.records(path):
        key, row = image_id(values["filename"]), _row(values, path, line)
        if key in found:
            raise DataError(f"{path}, row {row.line}: {key} stands there twice (first in row {found[key].line})")
        found[key] = row
    return found


def _row(values: dict[str, str], path: Path, line: int) -> Row:
    place = f"{path}, row {line} ({values['filename']})"
    try:
        xmin, xmax, ymin, ymax = (user_tables.number(values[name]) for name in COLUMNS[1:])
    except ValueError as error:
        raise DataError(f"{place}: an edge of the box is not a number ({error})") from None
    box = Box(xmin, ymin, xmax, ymax)
    if not all(map(math.isfinite, box)) or xmin >= xmax or ymin >= ymax:
        raise DataError(f"{place}: needs xmin < xmax and ymin < ymax, has {box}")
    return Row(box, values.get("source", ""), line)


def find(path: Path) -> dict[str, Row]:
    """The edited rows of the table, by image_id."""
    writing = {key: row for key, row in _version(pending(path)).items() if row.source != EDITED}  # those are the user's
    versions = [_version(written_copy(path)), writing]
    return {key: row for key, row in read(path).items() if row.source == EDITED or _changed(key, row, versions)}


def _version(copy: Path) -> dict[str, Row]:
    """What a run wrote; nothing where the copy was cut since."""
    return read(copy) if copy.is_file() and copy.read_bytes().endswith(b"\n") else {}


def _changed(key: str, row: Row, versions: list[dict[str, Row]]) -> bool:
    ours = [version[key].box for version in versions if key in version]
    return bool(ours) and not any(_same(row.box, box) for box in ours)


def _same(a: Box, b: Box) -> bool:
    return all(abs(one - other) < 1e-3 for one, other in zip(a, b, strict=True))


def pending(path: Path) -> Path:
    """The copy of what a run is writing to `path`; there only where a run was cut off."""
    return path.with_name(f".{path.stem}.writing.csv")


def digest(path: Path) -> str:
    """Digest of the edited boxes alone: what a run writes back leaves it as it is."""
    edges = sorted((key, *(round(edge, 3) for edge in row.box)) for key, row in find(path).items())
    return hashlib.sha256(repr(edges).encode()).hexdigest() if edges else ""


def is_complete(path: Path, boxes: Path) -> bool:
    """Whether the table to edit, `path`, has a row for each image of a run's own `boxes`."""
    if not boxes.is_file():
        return False
    return read(boxes).keys() <= read(path).keys() and bool(_version(written_copy(path)))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the table that all recipes of a dataset write; waits for another run that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.stem}.lock"), "a+") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX)
        yield


def restore(path: Path) -> None:
    """Write the table anew where it ends within a row of what was written last: it was cut, not edited."""
    if path.is_file() and written_copy(path).is_file():
        content, written = path.read_bytes(), written_copy(path).read_bytes()
        lost = written[len(content) :]  # from a row's end on: the user deleted the last rows
        in_a_row = lost.strip() == b"" or not lost.startswith((b"\n", b"\r"))
        if written.startswith(content) and not content.endswith(b"\n") and in_a_row:
            with replacing(path) as temporary:
                temporary.write_bytes(written)


def is_picture(path: Path) -> bool:
    """Whether a JPEG is there to its end; its digest tells nothing: all runs on a dataset draw this overview."""
    return path.is_file() and path.read_bytes()[-2:] == b"\xff\xd9"
