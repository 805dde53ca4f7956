"""The formats of box annotations that the tools of the field write, each parsed to rows of BoxAnnotation.

VGG Image Annotator's CSV and JSON; CSV with Filename,xmin,xmax,ymin,ymax: the published file, what stage 0 writes, and
TensorFlow's with width, height and class of the image; COCO JSON of any tool, and of our own export.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cxr.datasets import user_tables
from cxr.datasets.box_annotations import BoxAnnotation
from cxr.errors import DataError
from cxr.imaging.geometry import Box, Letterbox

EDGES = ("xmin", "ymin", "xmax", "ymax")
CHEST = re.compile(r"(?<![a-z])(chest|thorax|lungs?)(?![a-z])", re.IGNORECASE)
FINDING = re.compile(r"[a-z]thorax|pneumo|ptx|lesion|nodule|opacit|effusion|finding|fracture|tube|heart|cardi", re.I)


def parse_json_file(path: Path, text: str) -> list[BoxAnnotation]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error})") from None
    entries = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    images = entries.values() if isinstance(entries, dict) else ()
    if images and all(isinstance(item, dict) and "regions" in item for item in images):
        return mark_chest_rows([row for entry in images for row in _parse_via_image(path, entry)])
    try:
        images = {image["id"]: image for image in content["images"]}
        annotations = list(content["annotations"])
        categories = {item["id"]: str(item["name"]) for item in content.get("categories") or ()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no COCO JSON: images (id, file_name) and annotations are needed ({error})"
        ) from None
    rows = [
        _parse_coco_annotation(f"{path}, annotation {number}", item, images, categories)
        for number, item in enumerate(annotations, 1)
    ]
    return mark_chest_rows(rows, set(categories.values()))


def parse_via_row(location: str, row: dict[str, str]) -> BoxAnnotation:
    """VGG Image Annotator's CSV: one row a region, the shape as JSON in a cell; {} where none was drawn."""
    box_annotation = BoxAnnotation(row["filename"], f"{location} ({row['filename']})")
    try:
        shape = json.loads(row["region_shape_attributes"])
        attributes = json.loads(row.get("region_attributes") or "{}")
    except ValueError:
        return replace(box_annotation, fault="region_shape_attributes is not a rectangle's x, y, width, height")
    return _parse_via_region(box_annotation, shape, attributes)


def _parse_via_image(path: Path, entry: dict) -> Iterator[BoxAnnotation]:
    """One image of VGG Image Annotator's JSON, or project; version 1 counts its regions in a dict."""
    regions = entry["regions"] if isinstance(entry["regions"], dict | list) else ()
    regions = list(regions.values()) if isinstance(regions, dict) else list(regions or ())
    image_annotation = BoxAnnotation(str(entry.get("filename")), f"{path}, {entry.get('filename')}")
    if not regions:
        yield image_annotation
    for number, region in enumerate(regions, 1):
        box_annotation = replace(image_annotation, location=f"{image_annotation.location}, region {number}")
        region_fields = region if isinstance(region, dict) else {}
        yield _parse_via_region(
            box_annotation, region_fields.get("shape_attributes"), region_fields.get("region_attributes")
        )


def _parse_via_region(box_annotation: BoxAnnotation, shape: dict, attributes: dict) -> BoxAnnotation:
    if shape == {}:
        return box_annotation
    try:
        edges = _corner_to_edges([shape[key] for key in ("x", "y", "width", "height")])
    except (TypeError, KeyError):
        return replace(box_annotation, fault="region_shape_attributes is not a rectangle's x, y, width, height")
    return _set_box(replace(box_annotation, category=_join_remarks(attributes)), edges)


def _join_remarks(attributes: dict | None) -> str:
    """The words of a region's attributes: its texts, and the names of ticked check boxes."""
    values = attributes.values() if isinstance(attributes, dict) else ()
    ticked_names = (
        " ".join(name for name, is_ticked in value.items() if is_ticked) for value in values if isinstance(value, dict)
    )
    return " ".join([*(value for value in values if isinstance(value, str)), *ticked_names]).strip()


def parse_edge_rows(path: Path, header: set[str]) -> list[BoxAnnotation]:
    """Rows of edges.

    A fallback box of stage 0 was not observed, so it is no label; rows without a source are the published detector's.
    """
    rows = [(f"{path}, row {line} ({row['filename']})", row) for line, row in user_tables.read_records(path)]
    has_image_size = {"width", "height"} <= header and not all(_is_box_size(row) for _, row in rows)
    annotations = []
    for location, row in rows:
        category = row.get("class", row.get("label", ""))  # a number is a flag of its own, no name
        box_annotation = BoxAnnotation(row["filename"], location, category="" if category.isdigit() else category)
        if row.get("source") == "fallback":
            annotations.append(box_annotation)
            continue
        size = _parse_image_size(row) if has_image_size else None
        box_annotation = replace(box_annotation, size=size or None, is_detected="source" not in header)
        fault = "width or height of the image is not a number" if size == () else ""
        annotations.append(
            replace(box_annotation, fault=fault) if fault else _set_box(box_annotation, [row[edge] for edge in EDGES])
        )
    return mark_chest_rows(annotations, {row.category for row in annotations})


def _is_box_size(row: dict[str, str]) -> bool:
    """Whether width and height are the box's, not the image's."""
    try:
        width, height, *edges = (user_tables.parse_number(row[name]) for name in ("width", "height", *EDGES))
    except ValueError:
        return False
    return abs(edges[2] - edges[0] - width) <= 1 and abs(edges[3] - edges[1] - height) <= 1


def _parse_image_size(record: dict) -> tuple[float, float] | tuple[()] | None:
    """Width and height of an image, None where they are not given, () where they are no sizes."""
    values = [record.get(name) for name in ("width", "height")]
    if values in ([None, None], ["", ""]):
        return None
    try:
        width, height = (user_tables.parse_number(str(value)) for value in values)
    except ValueError:
        return ()
    return (width, height) if 0 < width < math.inf and 0 < height < math.inf else ()


def _parse_coco_annotation(location: str, annotation: dict, images: dict, categories: dict) -> BoxAnnotation:
    """COCO: an annotation with image_id and bbox [x, y, width, height], in pixels of the picture in `images`."""
    try:
        image = images[annotation["image_id"]]
        box_annotation = BoxAnnotation(
            str(image["file_name"]), location, category=categories.get(annotation.get("category_id"), "")
        )
    except (KeyError, TypeError) as error:
        return BoxAnnotation("", location, fault=f"{error} is missing")
    try:
        edges = _corner_to_edges(annotation["bbox"])
    except (KeyError, TypeError):
        return replace(box_annotation, fault="it has no bbox [x, y, width, height]")
    size, letterbox_record = _parse_image_size(image), image.get("letterbox")
    if size == ():
        return replace(box_annotation, fault="width or height of its image is no size")
    try:
        letterbox = None
        if letterbox_record and size:
            letterbox = Letterbox(*(int(letterbox_record[name]) for name in ("height", "width", "size")))
        if letterbox and min(letterbox) < 1:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        return replace(box_annotation, fault="the letterbox of its image is not height, width and size")
    return _set_box(replace(box_annotation, size=size, letterbox=letterbox), edges)


def _corner_to_edges(values: list) -> list:
    """xmin, ymin, xmax, ymax of x, y, width, height; other things as they are, for `_set_box` to refuse."""
    try:
        x, y, width, height = (user_tables.parse_number(str(value)) for value in values)
    except ValueError:
        return [values] if isinstance(values, str) else list(values)
    return [x, y, x + width, y + height]


def _set_box(box_annotation: BoxAnnotation, edges: list) -> BoxAnnotation:
    try:
        values = [user_tables.parse_number(str(edge)) for edge in edges]
    except ValueError as error:
        hint = f" ({error})" if "may mean" in str(error) else ""
        return replace(box_annotation, fault=f"an edge of the box is not a number{hint}")
    if len(values) != 4 or not all(map(math.isfinite, values)):
        return replace(box_annotation, fault="an edge of the box is missing or not finite")
    box = Box(*values)
    if box.xmin >= box.xmax or box.ymin >= box.ymax:
        fault = f"the box is empty: needs xmin < xmax and ymin < ymax, has {tuple(box)}"
        return replace(box_annotation, fault=fault)
    return replace(box_annotation, box=box)


def mark_chest_rows(rows: list[BoxAnnotation], categories: set[str] | None = None) -> list[BoxAnnotation]:
    """The rows, marked whether they are of a chest: by name of the category, else as the only one that is no finding.

    categories: all of the file; None for free remarks (attributes of VIA), where only the name of a finding counts.
    """
    names = {row.category for row in rows} if categories is None else categories
    chest_categories = {name for name in names if CHEST.search(name) and not FINDING.search(name)}
    if not chest_categories and (categories is None or len(names) <= 1):
        chest_categories = {name for name in names if not FINDING.search(name)}
        chest_categories |= {""} if chest_categories or not names else set()  # of a row that tells none
    return [replace(row, is_chest=row.category in chest_categories) for row in rows]
