"""The whole examination: look at everything, let each check speak, count."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cxr.doctor import copies, hand_boxes, listing, masks, people, pictures
from cxr.doctor.findings import Finding, exit_code, ordered
from cxr.doctor.material import Material, gather

CHECKS = (listing.check, masks.check, pictures.check, copies.check, people.check, hand_boxes.check)


@dataclass(frozen=True)
class Report:
    """What the doctor found in a data folder; the findings, the gravest first."""

    data: Path
    counts: dict[str, int]
    findings: list[Finding]
    prevalence: list[dict]
    paths: dict[str, Path]
    """The file of each image that a finding shows."""
    seconds: float

    @property
    def exit_code(self) -> int:
        return exit_code(self.findings)


def examine(data: Path, workers: int | None = None) -> Report:
    """Examine a data folder in the Kaggle layout, as it is before prepare.

    Raises UsageError where there is no such folder, DataError where it is ambiguous which table is which.
    """
    start = time.perf_counter()
    material, problems = gather(data, workers)
    findings = ordered([*problems, *(one for check in CHECKS for one in check(material))])
    shown = {name for one in findings for name in one.pictured if name in material.usable}
    paths = {name: data / material.files[name].path for name in shown}
    seconds = round(time.perf_counter() - start, 1)
    return Report(data, _counts(material), findings, people.prevalence(material), paths, seconds)


def _counts(material: Material) -> dict[str, int]:
    splits = Counter(material.splits.values())
    return {
        "images": len(material.files), "usable": len(material.usable), "labelled": len(material.labels),
        "with_pneumothorax": sum(material.labels.values()), "unlabelled": splits["unlabelled"], "test": splits["test"],
    }  # fmt: skip
