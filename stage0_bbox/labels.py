"""Chest boxes to learn from: four kinds of files, recognised by their content, in order of trust."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.boxes import image_id
from cxr.errors import DataError
from cxr.geometry import Box

WHOLE = 0.99  # share of the frame from which on a published box is its detector's way to say 'nothing found'


class Labelled(NamedTuple):
    """One box as its file gives it: the place names the row for messages; `box` is None where there is no region."""

    image_id: str
    box: Box | None
    place: str


@dataclass
class Labels:
    """Boxes to learn from by image_id, in the original's pixels, and the counts of rows that were left out."""

    hand: dict[str, Box] = field(default_factory=dict)
    weak: dict[str, Box] = field(default_factory=dict)
    """Of images that the first file is silent on."""
    skipped: Counter = field(default_factory=Counter)

    @property
    def boxes(self) -> dict[str, Box]:
        return self.weak | self.hand


def collect(files: list[Path] | tuple[Path, ...], hand_name: str, manifest: pd.DataFrame) -> Labels:
    """Boxes of training images from label files in order of trust; `hand_name` is the one that is scored against.

    manifest: tables.MANIFEST indexed by image_id. Raises DataError for a bad row, and where no box is left.
    """
    labels = Labels()
    frames = manifest.loc[manifest["split"] != "test", ["width", "height"]]
    sizes = dict(zip(frames.index, frames.itertuples(index=False, name=None), strict=True))
    for path in files:
        kept = _kept(path, sizes, labels.skipped)
        target = labels.hand if path.name == Path(hand_name).name else labels.weak
        target |= {key: box for key, box in kept.items() if key not in labels.hand and key not in labels.weak}
    if not labels.boxes:
        raise DataError(_nothing(files, hand_name, labels.skipped))
    return labels


def _nothing(files, hand_name: str, skipped: Counter) -> str:
    wanted = f"give chest boxes of training images as boundingbox_csv/{hand_name} in the data folder"
    kinds = "(VIA CSV, Filename,xmin,xmax,ymin,ymax, or COCO JSON; the phantoms bring theirs)"
    if not files:
        return f"no file of chest boxes to learn from: {wanted} {kinds}, or name another file in stage 0's labels"
    counts = "; ".join(f"{count} rows {why}" for why, count in skipped.items()) or "they hold no rows"
    return f"no box to learn from in {', '.join(map(str, files))}: {counts}; {wanted} {kinds}"


def _kept(path: Path, sizes: dict[str, tuple[int, int]], skipped: Counter) -> dict[str, Box]:
    """The boxes of one file that name a training image, clipped to its frame; of several, the largest."""
    kept: dict[str, Box] = {}
    whole = dialect(path) == "published"
    for row in read(path):
        if row.box is None:
            skipped[f"of {path.name} without a region"] += 1
        elif row.image_id not in sizes:
            skipped[f"of {path.name} without their training image"] += 1
        elif whole and _is_whole(row.box, *sizes[row.image_id]):
            skipped[f"of {path.name} that are the whole frame"] += 1
        else:
            box = _inside(row, *sizes[row.image_id])
            kept[row.image_id] = max(box, kept.get(row.image_id, box), key=lambda one: one.area)
    return kept


def _is_whole(box: Box, width: int, height: int) -> bool:
    return box.clipped(width, height).area >= WHOLE * width * height


def _inside(row: Labelled, width: int, height: int) -> Box:
    box = row.box.clipped(width, height)
    if box.xmin >= box.xmax or box.ymin >= box.ymax:
        raise DataError(f"{row.place}: the box lies outside its image of {width} x {height} pixels")
    return box


def read(path: Path) -> Iterator[Labelled]:
    """The boxes of a label file of any kind; DataError names the file and the row at fault."""
    readers = {"coco": _coco, "via": _via, "published": _edges, "ours": _ours}
    return readers[dialect(path)](path)


def dialect(path: Path) -> str:
    """The kind of a label file, by its content: via, ours, published or coco; DataError for any other."""
    start = _text(path)[:4096].lstrip()
    if start.startswith("{"):
        return "coco"
    header = {name.strip().strip('"#').lower() for name in start.split("\n", 1)[0].strip().split(",")}
    if "region_shape_attributes" in header:
        return "via"
    if {"filename", "xmin", "xmax", "ymin", "ymax"} <= header:
        return "ours" if "source" in header else "published"
    raise DataError(
        f"{path} is no file of boxes that is known: expected a VGG Image Annotator CSV, a CSV with the columns "
        "Filename,xmin,xmax,ymin,ymax, or a COCO JSON"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text") from None


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(place, row with lower-case column names) of a CSV."""
    table = csv.DictReader(io.StringIO(_text(path), newline=""))
    table.fieldnames = [name.strip().lstrip("#").lower() for name in table.fieldnames or []]
    for row in table:
        name = row["filename"] = row["filename"] or ""
        yield f"{path}, row {table.line_num} ({name})", row


def _via(path: Path) -> Iterator[Labelled]:
    """VGG Image Annotator's export: one row a region, the shape as JSON in a cell; {} where none was drawn."""
    for place, row in _rows(path):
        try:
            shape = json.loads(row["region_shape_attributes"])
            edges = [shape[key] for key in ("x", "y", "width", "height")] if shape else None
        except (TypeError, ValueError, KeyError):
            raise DataError(f"{place}: region_shape_attributes is not a rectangle's x, y, width, height") from None
        yield Labelled(image_id(row["filename"]), edges and _corner_and_size(edges, place), place)


def _edges(path: Path) -> Iterator[Labelled]:
    """The published detector's boxes."""
    for place, row in _rows(path):
        edges = [row[key] for key in ("xmin", "ymin", "xmax", "ymax")]
        yield Labelled(image_id(row["filename"]), _box(edges, place), place)


def _ours(path: Path) -> Iterator[Labelled]:
    """What stage 0 writes: a fallback is no observation, hence no label."""
    for place, row in _rows(path):
        edges = [row[key] for key in ("xmin", "ymin", "xmax", "ymax")]
        box = None if row["source"] == "fallback" else _box(edges, place)
        yield Labelled(image_id(row["filename"]), box, place)


def _coco(path: Path) -> Iterator[Labelled]:
    """COCO's JSON: images with id and file_name, annotations with image_id and bbox [x, y, width, height]."""
    try:
        table = json.loads(_text(path))
        names = {image["id"]: image_id(Path(image["file_name"]).name) for image in table["images"]}
        annotations = list(table["annotations"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no COCO JSON: images (id, file_name) and annotations are needed ({error})"
        ) from None
    for number, annotation in enumerate(annotations, 1):
        place = f"{path}, annotation {number}"
        try:
            name, edges = names[annotation["image_id"]], annotation["bbox"]
        except (KeyError, TypeError) as error:
            raise DataError(f"{place}: {error} is missing") from None
        yield Labelled(name, _corner_and_size(edges, place), place)


def _corner_and_size(values: list, place: str) -> Box:
    x, y, width, height = _numbers(values, place)
    return _box([x, y, x + width, y + height], place)


def _box(values: list, place: str) -> Box:
    box = Box(*_numbers(values, place))
    if box.xmin >= box.xmax or box.ymin >= box.ymax:
        raise DataError(f"{place}: the box is empty: needs xmin < xmax and ymin < ymax, has {tuple(box)}")
    return box


def _numbers(values: list, place: str) -> list[float]:
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError):
        raise DataError(f"{place}: an edge of the box is not a number") from None
    if len(found) != 4 or not all(map(math.isfinite, found)):
        raise DataError(f"{place}: an edge of the box is missing or not finite")
    return found
