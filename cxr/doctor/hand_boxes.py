"""Do the files of chest boxes that stage 0 learns from fit the images?"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cxr import box_files
from cxr.box_files import Labelled
from cxr.doctor.findings import Finding, found
from cxr.doctor.material import Material
from cxr.errors import DataError
from cxr.ids import meant
from cxr.paths import home

NAMES = ("original_boundingbox.csv", "bounding_box_siim.csv")  # as stage 0's settings name them, the hand-drawn first


def check(material: Material) -> Iterator[Finding]:
    """Findings on the files of boxes (cxr/box_files.py tells which kinds there are)."""
    paths, known = files(material.data), material.files
    rows = [row for path in paths for row in read(path)]
    yield from found("no-boxes", [str(material.data)] if not paths else [])
    yield from found("boxes-unreadable", [f"{row.place}: {row.fault}" for row in rows if row.fault])
    good = [(meant(row.name, known), row) for row in rows if not row.fault]
    lost = [row.place for name, row in good if name not in known]
    if known and good and len(lost) == len(good):
        yield from found("boxes-of-others", [path.name for path in paths])
    yield from found("boxes-without-image", lost)
    yield from found("boxes-without-region", [row.place for _, row in good if row.box is None])
    outside = [(name, row) for name, row in good if row.box and row.is_chest and _is_outside(name, row, material)]
    yield from found("boxes-outside", [(name, row.place) for name, row in outside])


def files(data: Path) -> list[Path]:
    """The files of boxes that stage 0 would take; never those that it writes."""
    folders = (data / "boundingbox_csv", data, home() / "boundingbox_csv")
    places = (next((folder / name for folder in folders if (folder / name).is_file()), None) for name in NAMES)
    return [path for path in places if path]


def read(path: Path) -> list[Labelled]:
    """The rows of a file, their places seen from its folder; one that says why, where it is no file of boxes."""
    try:
        rows = box_files.read(path)
    except DataError as error:
        rows = [Labelled("", path.name, fault=str(error))]
    return [replace(row, place=row.place.removeprefix(f"{path.parent}/")) for row in rows]


def _is_outside(name: str, row: Labelled, material: Material) -> bool:
    look = material.usable.get(name)
    try:
        return look is not None and not row.in_original(look.width, look.height)
    except DataError:
        return True
