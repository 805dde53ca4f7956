"""Files of chest boxes as the tools of the field write them, recognised by their content.

VGG Image Annotator's CSV and JSON; CSV with Filename,xmin,xmax,ymin,ymax: the published file, what stage 0 writes, and
TensorFlow's with width, height and class of the image; COCO JSON of any tool, and of our own export.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cxr import user_tables
from cxr.errors import DataError
from cxr.geometry import Box, Letterbox
from cxr.ids import meant

WHOLE = 0.99  # share of the frame from which on a published box is its detector's way to say 'nothing found'
INSIDE = 0.75  # of a box's area at least: annotators overshoot the edge a little, boxes of another image size do not
EDGES = ("xmin", "ymin", "xmax", "ymax")
CHEST = re.compile(r"(?<![a-z])(chest|thorax|lungs?)(?![a-z])", re.IGNORECASE)
LUNG = re.compile(r"(?<![a-z])lungs?(?![a-z])", re.IGNORECASE)
FINDING = re.compile(r"[a-z]thorax|pneumo|ptx|lesion|nodule|opacit|effusion|finding|fracture|tube|heart|cardi", re.I)


@dataclass(frozen=True)
class Labelled:
    """One box as its file gives it."""

    name: str
    """Of the image, as the file spells it."""
    place: str
    """File and row, for messages."""
    box: Box | None = None
    """None where there is no region."""
    size: tuple[float, float] | None = None
    """Width and height of the picture that it was drawn on, where the file tells; else it is the original."""
    letterbox: Letterbox | None = None
    """How the original lies on that picture, where our own export wrote it."""
    category: str = ""
    is_chest: bool = True
    detected: bool = False
    """By the published detector, whose whole frame says that it found nothing."""
    fault: str = ""
    """Why it cannot be read."""

    def in_original(self, width: int, height: int) -> Box:
        """The box in the pixels of an original of `width` x `height`, clipped to it; DataError where it cannot be."""
        box = self._scaled(width, height)
        inside = box.clipped(width, height)
        if inside.width <= 0 or inside.height <= 0 or inside.area < INSIDE * box.area:
            partly = ", more than a quarter of it" if inside.area > 0 else ""
            raise DataError(f"{self.place}: the box lies outside its image of {width} x {height} pixels{partly}")
        return inside

    def _scaled(self, width: int, height: int) -> Box:
        if self.size is None:
            return self.box
        ours = self.letterbox
        if ours and (ours.height, ours.width) == (height, width):
            return ours.to_original(self.box.scaled(ours.size / self.size[0]))
        if not ours and _same_shape(self.size, (width, height)):
            factors = (width / self.size[0], height / self.size[1]) * 2
            return Box(*(edge * factor for edge, factor in zip(self.box, factors, strict=True)))
        shape = "{:g} x {:g}".format(*((ours.width, ours.height) if ours else self.size))
        raise DataError(
            f"{self.place}: the image has {shape} pixels there, its original {width} x {height}, which is another "
            "shape; give boxes in the original's pixels, without the image's size"
        )


def _same_shape(size: tuple[float, float], original: tuple[int, int]) -> bool:
    """Whether two (width, height) differ by their scale alone, within the smaller one's rounding."""
    (w, h), (width, height) = sorted((size, original))
    return abs(w * height / width - h) <= 1 or abs(h * width / height - w) <= 1


def of_images(path: Path, sizes: dict[str, tuple[int, int]], skipped: Counter) -> dict[str, Box]:
    """The chest box of each image that a file has one of, in the original's pixels; lungs are united, else the largest.

    sizes: (width, height) of the originals by image_id, which alone are looked for; skipped: counts why rows are left
    out. Raises DataError with file and row for a row that cannot be read, and for a box outside its image.
    """
    found: dict[str, Box] = {}
    for row in read(path):
        if row.fault and row.is_chest:
            raise DataError(f"{row.place}: {row.fault}")
        key = meant(row.name, sizes)
        why = _left_out(row, sizes.get(key))
        if why:
            skipped[f"of {path.name} {why}"] += 1
            continue
        box = row.in_original(*sizes[key])
        found[key] = _joined(found[key], box, bool(LUNG.search(row.category))) if key in found else box
    return found


def _left_out(row: Labelled, size: tuple[int, int] | None) -> str:
    if not row.is_chest:
        return f"of category {row.category[:40]!r}, which is no chest,"
    if row.box is None:
        return "without a region"
    if size is None:
        return "without their training image"
    whole = row.detected and row.in_original(*size).area >= WHOLE * size[0] * size[1]
    return "that are the whole frame" if whole else ""


def _joined(one: Box, other: Box, united: bool) -> Box:
    if not united:
        return max(one, other, key=lambda box: box.area)
    low, high = zip(one[:2], other[:2], strict=True), zip(one[2:], other[2:], strict=True)
    return Box(*map(min, low), *map(max, high))


def read(path: Path) -> list[Labelled]:
    """The rows of a file of any kind; what is wrong with one stands in its `fault`. DataError: the file is none."""
    text = user_tables.read_text(path)
    if text.lstrip()[:1] in ("{", "["):
        return _of_json(path, text)
    header = set(user_tables.columns(next(user_tables.lines(path), (1, []))[1]))
    if {"filename", "region_shape_attributes"} <= header:
        return _judged([_via(f"{path}, row {line}", row) for line, row in user_tables.records(path)])
    if {"filename", *EDGES} <= header:
        return _of_edges(path, header)
    raise DataError(
        f"{path} is no file of boxes that is known: expected a VGG Image Annotator CSV or JSON, a CSV with the columns "
        "Filename,xmin,xmax,ymin,ymax, or a COCO JSON"
    )


def _of_json(path: Path, text: str) -> list[Labelled]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error})") from None
    entries = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    images = entries.values() if isinstance(entries, dict) else ()
    if images and all(isinstance(one, dict) and "regions" in one for one in images):
        return _judged([row for entry in images for row in _via_regions(path, entry)])
    try:
        images = {image["id"]: image for image in content["images"]}
        annotations = list(content["annotations"])
        categories = {one["id"]: str(one["name"]) for one in content.get("categories") or ()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no COCO JSON: images (id, file_name) and annotations are needed ({error})"
        ) from None
    rows = [_coco(f"{path}, annotation {n}", one, images, categories) for n, one in enumerate(annotations, 1)]
    return _judged(rows, set(categories.values()))


def _via(place: str, row: dict[str, str]) -> Labelled:
    """VGG Image Annotator's CSV: one row a region, the shape as JSON in a cell; {} where none was drawn."""
    empty = Labelled(row["filename"], f"{place} ({row['filename']})")
    try:
        shape = json.loads(row["region_shape_attributes"])
        attributes = json.loads(row.get("region_attributes") or "{}")
    except ValueError:
        return replace(empty, fault="region_shape_attributes is not a rectangle's x, y, width, height")
    return _via_region(empty, shape, attributes)


def _via_regions(path: Path, entry: dict) -> Iterator[Labelled]:
    """One image of VGG Image Annotator's JSON, or project; version 1 counts its regions in a dict."""
    regions = entry["regions"] if isinstance(entry["regions"], dict | list) else ()
    regions = list(regions.values()) if isinstance(regions, dict) else list(regions or ())
    empty = Labelled(str(entry.get("filename")), f"{path}, {entry.get('filename')}")
    if not regions:
        yield empty
    for number, region in enumerate(regions, 1):
        place = replace(empty, place=f"{empty.place}, region {number}")
        parts = region if isinstance(region, dict) else {}
        yield _via_region(place, parts.get("shape_attributes"), parts.get("region_attributes"))


def _via_region(empty: Labelled, shape: dict, attributes: dict) -> Labelled:
    if shape == {}:
        return empty
    try:
        edges = _from_corner([shape[key] for key in ("x", "y", "width", "height")])
    except (TypeError, KeyError):
        return replace(empty, fault="region_shape_attributes is not a rectangle's x, y, width, height")
    return _with_box(replace(empty, category=_remarks(attributes)), edges)


def _remarks(attributes: dict | None) -> str:
    """The words of a region's attributes: texts, and of check boxes the ticked ones."""
    values = attributes.values() if isinstance(attributes, dict) else ()
    ticked = (" ".join(name for name, is_so in value.items() if is_so) for value in values if isinstance(value, dict))
    return " ".join([*(value for value in values if isinstance(value, str)), *ticked]).strip()


def _of_edges(path: Path, header: set[str]) -> list[Labelled]:
    """Rows of edges. A fallback of ours is no observation, hence no label; of the published file, the detector's."""
    rows = [(f"{path}, row {line} ({row['filename']})", row) for line, row in user_tables.records(path)]
    sized = {"width", "height"} <= header and not all(_is_own_size(row) for _, row in rows)
    found = []
    for place, row in rows:
        category = row.get("class", row.get("label", ""))  # a number is a flag of its own, no name
        empty = Labelled(row["filename"], place, category="" if category.isdigit() else category)
        if row.get("source") == "fallback":
            found.append(empty)
            continue
        size = _size(row) if sized else None
        empty = replace(empty, size=size or None, detected="source" not in header)
        fault = "width or height of the image is not a number" if size == () else ""
        found.append(replace(empty, fault=fault) if fault else _with_box(empty, [row[edge] for edge in EDGES]))
    return _judged(found, {row.category for row in found})


def _is_own_size(row: dict[str, str]) -> bool:
    """Whether width and height are the box's, not the image's."""
    try:
        width, height, *edges = (user_tables.number(row[name]) for name in ("width", "height", *EDGES))
    except ValueError:
        return False
    return abs(edges[2] - edges[0] - width) <= 1 and abs(edges[3] - edges[1] - height) <= 1


def _size(facts: dict) -> tuple[float, float] | tuple[()] | None:
    """Width and height of an image, None where they are not given, () where they are no sizes."""
    values = [facts.get(name) for name in ("width", "height")]
    if values in ([None, None], ["", ""]):
        return None
    try:
        width, height = (user_tables.number(str(value)) for value in values)
    except ValueError:
        return ()
    return (width, height) if 0 < width < math.inf and 0 < height < math.inf else ()


def _coco(place: str, annotation: dict, images: dict, categories: dict) -> Labelled:
    """COCO: an annotation with image_id and bbox [x, y, width, height], in pixels of the picture in `images`."""
    try:
        image = images[annotation["image_id"]]
        empty = Labelled(str(image["file_name"]), place, category=categories.get(annotation.get("category_id"), ""))
    except (KeyError, TypeError) as error:
        return Labelled("", place, fault=f"{error} is missing")
    try:
        edges = _from_corner(annotation["bbox"])
    except (KeyError, TypeError):
        return replace(empty, fault="it has no bbox [x, y, width, height]")
    size, ours = _size(image), image.get("letterbox")
    if size == ():
        return replace(empty, fault="width or height of its image is no size")
    try:
        letterbox = Letterbox(*(int(ours[name]) for name in ("height", "width", "size"))) if ours and size else None
        if letterbox and min(letterbox) < 1:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        return replace(empty, fault="the letterbox of its image is not height, width and size")
    return _with_box(replace(empty, size=size, letterbox=letterbox), edges)


def _from_corner(values: list) -> list:
    """xmin, ymin, xmax, ymax of x, y, width, height; other things as they are, for `_with_box` to refuse."""
    try:
        x, y, width, height = (user_tables.number(str(value)) for value in values)
    except ValueError:
        return [values] if isinstance(values, str) else list(values)
    return [x, y, x + width, y + height]


def _with_box(empty: Labelled, edges: list) -> Labelled:
    try:
        values = [user_tables.number(str(edge)) for edge in edges]
    except ValueError as error:
        told = f" ({error})" if "may mean" in str(error) else ""
        return replace(empty, fault=f"an edge of the box is not a number{told}")
    if len(values) != 4 or not all(map(math.isfinite, values)):
        return replace(empty, fault="an edge of the box is missing or not finite")
    box = Box(*values)
    if box.xmin >= box.xmax or box.ymin >= box.ymax:
        fault = f"the box is empty: needs xmin < xmax and ymin < ymax, has {tuple(box)}"
        return replace(empty, fault=fault)
    return replace(empty, box=box)


def _judged(rows: list[Labelled], categories: set[str] | None = None) -> list[Labelled]:
    """The rows, told whether they are a chest's: by name, else of the only category that is no finding.

    categories: all of the file; None where they are free remarks (VIA's attributes), of which a finding alone counts.
    """
    names = {row.category for row in rows} if categories is None else categories
    chest = {name for name in names if CHEST.search(name) and not FINDING.search(name)}
    if not chest and (categories is None or len(names) <= 1):
        chest = {name for name in names if not FINDING.search(name)}
        chest |= {""} if chest or not names else set()  # of a row that tells none
    return [replace(row, is_chest=row.category in chest) for row in rows]
