"""What the checks work on: the tables of a data folder, as far as they can be read, and a scan of every image."""

import filecmp
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cxr import processes
from cxr.datasets import kaggle
from cxr.datasets.image_ids import parse_image_id
from cxr.errors import DataError
from cxr.progress import ProgressLine
from datatools.doctor.findings import Finding, report_finding
from datatools.doctor.image_scan import ImageScan, ScanTask, scan_image

CRASHED_SCAN = ImageScan(refusal_reason="the decoder crashed on it, or ran out of memory")


@dataclass(frozen=True)
class DatasetScan:
    """A data folder's tables, as `kaggle.Layout` reads them, and the scans of its images."""

    data: Path
    layout: kaggle.Layout
    rows: dict[str, list[kaggle.MaskRow]] = field(default_factory=dict)
    """Mask rows by image id."""
    samples: list[str] = field(default_factory=list)
    """Image ids of the sample submission."""
    patients: dict[str, str] = field(default_factory=dict)
    """Patient by image id."""
    scans: dict[str, ImageScan] = field(default_factory=dict)
    """The scan of the first file of each image id."""

    @cached_property
    def first_files(self) -> dict[str, kaggle.File]:
        """The first file of each image id."""
        return {name: files[0] for name, files in self.files_by_id.items()}

    @cached_property
    def files_by_id(self) -> dict[str, list[kaggle.File]]:
        """All files of each image id."""
        return group_files_by_id(self.layout)

    @cached_property
    def splits(self) -> dict[str, str]:
        """train, test or unlabelled, by image id; an image in both tables counts as train."""
        samples = set(self.samples)
        return {name: "train" if name in self.rows else kaggle.assign_split(name, file, {}, samples)
                for name, file in self.first_files.items()}  # fmt: skip

    @cached_property
    def usable_scans(self) -> dict[str, ImageScan]:
        """The scans of the images that prepare will use."""
        return {name: scan for name, scan in self.scans.items() if scan.refusal_reason is None}

    @cached_property
    def labels(self) -> dict[str, bool]:
        """Whether an image shows a pneumothorax, for each usable image with a mask row."""
        return {name: scan.area > 0 for name, scan in self.usable_scans.items() if name in self.rows}

    def has_differing_files(self, name: str) -> bool:
        """Whether the files of an image id are not all equal."""
        first_path, *other_paths = (self.data / file.path for file in self.files_by_id[name])
        try:
            return any(not filecmp.cmp(first_path, other_path, shallow=False) for other_path in other_paths)
        except OSError:  # one of them cannot be read to its end
            return True


def group_files_by_id(layout: kaggle.Layout) -> dict[str, list[kaggle.File]]:
    """All files of each image id, in the order of the folder scan."""
    files: dict[str, list[kaggle.File]] = {}
    for file in layout.dicoms:
        files.setdefault(parse_image_id(file.name), []).append(file)
    return files


def scan_dataset(data: Path, workers: int | None = None) -> tuple[DatasetScan, list[Finding]]:
    """Read the tables and scan every image; also returns findings on tables that cannot be read.

    data: the data folder; workers: processes, None for one for each processor.

    Raises UsageError where there is no such folder, DataError where its tables are ambiguous.
    """
    layout = kaggle.find_layout(data)
    problems: list[Finding] = []
    rows = _read_or_report(layout.read_mask_rows, {}, "rows-unreadable", problems) if layout.rows_csv else {}
    samples = _read_or_report(layout.read_sample_ids, [], "table-unreadable", problems)
    patients = _read_or_report(layout.read_patients, {}, "table-unreadable", problems)
    tubes_csv = data / "chest_tubes.csv"
    _read_or_report(
        lambda: kaggle.read_chest_tubes(tubes_csv) if tubes_csv.is_file() else {}, {}, "table-unreadable", problems
    )
    scans = _scan_images(layout, rows, workers)
    return DatasetScan(data, layout, rows, samples, patients, scans), problems


def _read_or_report(read_table: Callable[[], Any], default: Any, kind: str, problems: list[Finding]) -> Any:
    """The table; where it cannot be read, `default`, and a finding of this kind is added to `problems`."""
    try:
        return read_table()
    except DataError as error:
        problems += report_finding(kind, [str(error)])
    except OSError as error:
        problems += report_finding(kind, [f"{error.filename}: {error.strerror}"])
    return default


def _scan_images(
    layout: kaggle.Layout, rows: dict[str, list[kaggle.MaskRow]], workers: int | None
) -> dict[str, ImageScan]:
    tasks = [_build_task(name, layout.data / files[0].path, rows) for name, files in group_files_by_id(layout).items()]
    line, scans = ProgressLine("doctor", log_seconds=15), {}
    for task, result in processes.map_unordered(scan_image, tasks, workers, preload=["datatools.doctor.image_scan"]):
        scans[task.image_id] = CRASHED_SCAN if result is processes.DIED else result
        if len(scans) % 100 == 0:
            line.show_progress(f"{len(scans):,} of {len(tasks):,} images")
    line.print_message(f"{len(scans):,} images")
    return dict(sorted(scans.items()))


def _build_task(name: str, path: Path, rows: dict[str, list[kaggle.MaskRow]]) -> ScanTask:
    return ScanTask(name, path, tuple(rows[name]) if name in rows else None)
