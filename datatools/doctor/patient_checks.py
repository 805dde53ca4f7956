"""Which patients are the images of, and how often do they show a pneumothorax?"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from datatools.doctor.dataset_scan import DatasetScan
from datatools.doctor.findings import Finding, report_finding
from evaluation.subgroups import AGE_GROUPS


def check_patients(dataset: DatasetScan) -> Iterator[Finding]:
    """Findings on the table of patients and on the labels."""
    labels, patients = dataset.labels, dataset.patients
    names_with_patient = [name for name in labels if name in patients]
    patient_count = len({patients[name] for name in names_with_patient})
    yield from report_finding("patients-known", names_with_patient, patients=f"{patient_count:,}")
    yield from report_finding("patients-unknown", [name for name in labels if name not in patients])
    yield from report_finding("patients-not-here", [name for name in patients if name not in dataset.first_files])
    labelled_patients = {patients[name] for name in names_with_patient}
    tests_with_patient = [
        name for name, split in dataset.splits.items() if split == "test" and patients.get(name) in labelled_patients
    ]
    yield from report_finding("patients-in-test", tests_with_patient)
    positive_names = [name for name, label in labels.items() if label]
    yield from report_finding("prevalence", positive_names, share=len(positive_names) / max(len(labels), 1))
    yield from report_finding(
        "one-class", ["all with" if positive_names else "all without"] if _is_one_class(labels) else []
    )


def _is_one_class(labels: dict[str, bool]) -> bool:
    return len(set(labels.values())) == 1


def measure_prevalence(dataset: DatasetScan) -> list[dict]:
    """Share of the labelled images with a pneumothorax by view, sex and age.

    Returns a dict for each group: by (view, sex or age), group, images, positive, share (0 to 1).
    """
    scans = [dataset.usable_scans[name] for name in dataset.labels]
    edges = [low for low, _ in AGE_GROUPS.values()] + [np.inf]
    ages = pd.cut(pd.Series([scan.years for scan in scans], dtype=float), edges, right=False, labels=list(AGE_GROUPS))
    columns = {
        "view": [scan.view or "unknown" for scan in scans],
        "sex": [scan.sex if scan.sex in ("M", "F") else "unknown" for scan in scans],
        "age": ages.astype(object).where(ages.notna(), "unknown"),
    }
    label = pd.Series(list(dataset.labels.values()), dtype=float)
    return [
        row
        for column, groups in columns.items()
        for row in _count_positives_by_group(column, pd.Series(groups, dtype=object), label)
    ]


def _count_positives_by_group(column: str, groups: pd.Series, label: pd.Series) -> Iterator[dict]:
    for group, part in label.groupby(groups):
        counts = {"images": len(part), "positive": int(part.sum()), "share": round(float(part.mean()), 4)}
        yield {"by": column, "group": group} | counts
