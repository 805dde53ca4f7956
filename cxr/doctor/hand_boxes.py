"""Do the files of chest boxes that stage 0 learns from fit the images?"""

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cxr.boxes import image_id
from cxr.doctor.findings import Finding, found
from cxr.doctor.material import Material
from cxr.geometry import Box
from cxr.paths import home

NAMES = ("original_boundingbox.csv", "bounding_box_siim.csv")  # as stage 0's settings name them, the hand-drawn first
EDGES, SHAPE = ("xmin", "ymin", "xmax", "ymax"), "region_shape_attributes"


class Row(NamedTuple):
    """A row of a file of boxes; box: None where no region was drawn; fault: why it cannot be read."""

    place: str
    image_id: str
    box: Box | None = None
    fault: str = ""


def check(material: Material) -> Iterator[Finding]:
    """Findings on CSV files of boxes: VGG Image Annotator's, or with the columns Filename, xmin, xmax, ymin, ymax."""
    paths, known = files(material.data), material.files
    rows = [row for path in paths for row in read(path)]
    yield from found("no-boxes", [str(material.data)] if not paths else [])
    yield from found("boxes-unreadable", [f"{row.place}: {row.fault}" for row in rows if row.fault])
    good = [row for row in rows if not row.fault]
    lost = [row.place for row in good if row.image_id not in known]
    if known and good and len(lost) == len(good):
        yield from found("boxes-of-others", [path.name for path in paths])
    yield from found("boxes-without-image", lost)
    yield from found("boxes-without-region", [row.place for row in good if row.box is None])
    yield from found("boxes-outside", [(row.image_id, row.place) for row in good if _is_outside(row, material)])


def files(data: Path) -> list[Path]:
    """The files of boxes that stage 0 would take; never those that it writes."""
    folders = (data / "boundingbox_csv", data, home() / "boundingbox_csv")
    places = (next((folder / name for folder in folders if (folder / name).is_file()), None) for name in NAMES)
    return [path for path in places if path]


def read(path: Path) -> Iterator[Row]:
    """The rows of a file; what is wrong with one stands in its `fault`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        yield Row(path.name, "", fault="is not UTF-8 text")
        return
    except OSError as error:
        yield Row(path.name, "", fault=f"cannot be read ({error.strerror})")
        return
    table = csv.DictReader(io.StringIO(text, newline=""))
    table.fieldnames = [name.strip().lstrip("#").lower() for name in table.fieldnames or []]
    if not any({"filename", *needed} <= set(table.fieldnames) for needed in (EDGES, [SHAPE])):
        yield Row(path.name, "", fault="has not the columns of a file of boxes")
        return
    for cells in table:
        yield _row(f"{path.name}, row {table.line_num}", cells)


def _row(place: str, cells: dict[str, str]) -> Row:
    name = image_id(cells["filename"] or "")
    try:
        return Row(f"{place} ({name})", name, _box(cells))
    except (TypeError, ValueError, KeyError):
        return Row(f"{place} ({name})", name, fault="is no box")


def _box(cells: dict[str, str]) -> Box | None:
    if SHAPE in cells:
        shape = json.loads(cells[SHAPE])
        if not shape:
            return None
        x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
        box = Box(x, y, x + width, y + height)
    else:
        box = Box(*(float(cells[edge]) for edge in EDGES))
    if not (box.area > 0 and math.isfinite(sum(box))):
        raise ValueError
    return box


def _is_outside(row: Row, material: Material) -> bool:
    look = material.usable.get(row.image_id)
    return look is not None and row.box is not None and row.box.clipped(look.width, look.height).area <= 0
