"""The whole examination: scan the data folder, run every check, count the images."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from datatools.doctor import box_checks, duplicate_checks, image_checks, mask_checks, patient_checks, table_checks
from datatools.doctor.dataset_scan import DatasetScan, scan_dataset
from datatools.doctor.findings import Finding, compute_exit_code, sort_by_severity

CHECKS = (  # each: a function of the DatasetScan that yields findings
    table_checks.check_tables,
    mask_checks.check_masks,
    image_checks.check_images,
    duplicate_checks.check_duplicates,
    patient_checks.check_patients,
    box_checks.check_box_files,
)


@dataclass(frozen=True)
class DatasetReport:
    """What the doctor found in a data folder; the most severe findings first."""

    data: Path
    counts: dict[str, int]
    findings: list[Finding]
    prevalence: list[dict]
    """Rows of `patient_checks.measure_prevalence`."""
    paths: dict[str, Path]
    """The file of each image that a finding shows."""
    seconds: float

    @property
    def exit_code(self) -> int:
        """Of the command: 0, 3 or 4 (`findings.compute_exit_code`)."""
        return compute_exit_code(self.findings)


def examine_dataset(data: Path, workers: int | None = None) -> DatasetReport:
    """Examine a data folder in the Kaggle layout, before anything is prepared.

    Raises UsageError where there is no such folder, DataError where it is ambiguous which table is which.
    """
    start = time.perf_counter()
    dataset, problems = scan_dataset(data, workers)
    findings = sort_by_severity([*problems, *(finding for check in CHECKS for finding in check(dataset))])
    pictured_names = {name for finding in findings for name in finding.pictured if name in dataset.usable_scans}
    paths = {name: data / dataset.first_files[name].path for name in pictured_names}
    seconds = round(time.perf_counter() - start, 1)
    return DatasetReport(
        data, _count_images(dataset), findings, patient_checks.measure_prevalence(dataset), paths, seconds
    )


def _count_images(dataset: DatasetScan) -> dict[str, int]:
    splits = Counter(dataset.splits.values())
    return {
        "images": len(dataset.first_files), "usable": len(dataset.usable_scans), "labelled": len(dataset.labels),
        "with_pneumothorax": sum(dataset.labels.values()), "unlabelled": splits["unlabelled"], "test": splits["test"],
    }  # fmt: skip
