"""Chest boxes of annotation files, whose format (cxr.datasets.box_formats) is recognised by their content."""

import re
from collections import Counter
from pathlib import Path

from cxr.datasets import box_formats, user_tables
from cxr.datasets.box_annotations import BoxAnnotation
from cxr.datasets.box_formats import EDGES
from cxr.datasets.image_ids import match_image_id
from cxr.errors import DataError
from cxr.imaging.geometry import Box

WHOLE_FRAME_SHARE = 0.99  # a published box of at least this share of the frame: its detector found nothing
LUNG = re.compile(r"(?<![a-z])lungs?(?![a-z])", re.IGNORECASE)


def read_chest_boxes(path: Path, sizes: dict[str, tuple[int, int]], skip_counts: Counter) -> dict[str, Box]:
    """The chest box of each image in a file, in the original's pixels: the union of two lungs, else the largest box.

    sizes: (width, height) of the originals by image_id; rows of other images are skipped.
    skip_counts: number of skipped rows by reason, added to.

    Raises DataError with file and row for a row that cannot be read, and for a box outside its image.
    """
    boxes: dict[str, Box] = {}
    for row in read_annotations(path):
        if row.fault and row.is_chest:
            raise DataError(f"{row.location}: {row.fault}")
        key = match_image_id(row.image_name, sizes)
        skip_reason = _explain_skip(row, sizes.get(key))
        if skip_reason:
            skip_counts[f"of {path.name} {skip_reason}"] += 1
            continue
        box = row.box_in_original(*sizes[key])
        boxes[key] = _merge_boxes(boxes[key], box, bool(LUNG.search(row.category))) if key in boxes else box
    return boxes


def _explain_skip(row: BoxAnnotation, size: tuple[int, int] | None) -> str:
    if not row.is_chest:
        return f"of category {row.category[:40]!r}, which is no chest,"
    if row.box is None:
        return "without a region"
    if size is None:
        return "without their training image"
    is_whole_frame = row.is_detected and row.box_in_original(*size).area >= WHOLE_FRAME_SHARE * size[0] * size[1]
    return "that are the whole frame" if is_whole_frame else ""


def _merge_boxes(first: Box, second: Box, are_lungs: bool) -> Box:
    if not are_lungs:
        return max(first, second, key=lambda box: box.area)
    low, high = zip(first[:2], second[:2], strict=True), zip(first[2:], second[2:], strict=True)
    return Box(*map(min, low), *map(max, high))


def read_annotations(path: Path) -> list[BoxAnnotation]:
    """The rows of an annotation file of any known format; `fault` of a row says why it cannot be read.

    Raises DataError if the file has no known format.
    """
    text = user_tables.read_text(path)
    if text.lstrip()[:1] in ("{", "["):
        return box_formats.parse_json_file(path, text)
    header = set(user_tables.normalise_columns(next(user_tables.read_lines(path), (1, []))[1]))
    if {"filename", "region_shape_attributes"} <= header:
        return box_formats.mark_chest_rows(
            [box_formats.parse_via_row(f"{path}, row {line}", row) for line, row in user_tables.read_records(path)]
        )
    if {"filename", *EDGES} <= header:
        return box_formats.parse_edge_rows(path, header)
    raise DataError(
        f"{path} is no file of boxes that is known: expected a VGG Image Annotator CSV or JSON, a CSV with the columns "
        "Filename,xmin,xmax,ymin,ymax, or a COCO JSON"
    )
