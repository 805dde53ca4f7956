"""Do the files of chest boxes that stage 0 learns from fit the images?"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cxr.datasets import box_files
from cxr.datasets.box_annotations import BoxAnnotation
from cxr.datasets.image_ids import match_image_id
from cxr.errors import DataError
from cxr.paths import home_folder
from datatools.doctor.dataset_scan import DatasetScan
from datatools.doctor.findings import Finding, report_finding

BOX_FILE_NAMES = ("original_boundingbox.csv", "bounding_box_siim.csv")
"""As stage 0's settings name them; the hand-drawn boxes first."""


def check_box_files(dataset: DatasetScan) -> Iterator[Finding]:
    """Findings on the files of boxes; cxr/datasets/box_files.py lists the formats that are read."""
    paths, image_files = find_box_files(dataset.data), dataset.first_files
    rows = [row for path in paths for row in read_box_rows(path)]
    yield from report_finding("no-boxes", [str(dataset.data)] if not paths else [])
    yield from report_finding("boxes-unreadable", [f"{row.location}: {row.fault}" for row in rows if row.fault])
    named_rows = [(match_image_id(row.image_name, image_files), row) for row in rows if not row.fault]
    rows_without_image = [row.location for name, row in named_rows if name not in image_files]
    if image_files and named_rows and len(rows_without_image) == len(named_rows):
        yield from report_finding("boxes-of-others", [path.name for path in paths])
    yield from report_finding("boxes-without-image", rows_without_image)
    yield from report_finding("boxes-without-region", [row.location for _, row in named_rows if row.box is None])
    rows_outside = [
        (name, row) for name, row in named_rows if row.box and row.is_chest and _is_outside(name, row, dataset)
    ]
    yield from report_finding("boxes-outside", [(name, row.location) for name, row in rows_outside])


def find_box_files(data: Path) -> list[Path]:
    """The files of boxes that stage 0 would learn from; never those that it writes."""
    folders = (data / "boundingbox_csv", data, home_folder() / "boundingbox_csv")
    box_paths = (
        next((folder / name for folder in folders if (folder / name).is_file()), None) for name in BOX_FILE_NAMES
    )
    return [path for path in box_paths if path]


def read_box_rows(path: Path) -> list[BoxAnnotation]:
    """The rows of a file, their locations relative to its folder; where it cannot be read, one row with the fault."""
    try:
        rows = box_files.read_annotations(path)
    except DataError as error:
        rows = [BoxAnnotation("", path.name, fault=str(error))]
    return [replace(row, location=row.location.removeprefix(f"{path.parent}/")) for row in rows]


def _is_outside(name: str, row: BoxAnnotation, dataset: DatasetScan) -> bool:
    scan = dataset.usable_scans.get(name)
    try:
        return scan is not None and not row.box_in_original(scan.width, scan.height)
    except DataError:
        return True
