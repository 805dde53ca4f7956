"""Whose images are they, and how often do they show a pneumothorax?"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from cxr.doctor.findings import Finding, found
from cxr.doctor.material import Material
from cxr.panel.groups import AGES


def check(material: Material) -> Iterator[Finding]:
    """Findings on the grouping by patient, and on the label."""
    labels, patients = material.labels, material.patients
    known = [name for name in labels if name in patients]
    count = len({patients[name] for name in known})
    yield from found("patients-known", known, patients=f"{count:,}")
    yield from found("patients-unknown", [name for name in labels if name not in patients])
    yield from found("patients-not-here", [name for name in patients if name not in material.files])
    trained = {patients[name] for name in known}
    tested = [name for name, split in material.splits.items() if split == "test" and patients.get(name) in trained]
    yield from found("patients-in-test", tested)
    positive = [name for name, label in labels.items() if label]
    yield from found("prevalence", positive, share=len(positive) / max(len(labels), 1))
    yield from found("one-class", ["all with" if positive else "all without"] if _is_one_class(labels) else [])


def _is_one_class(labels: dict[str, bool]) -> bool:
    return len(set(labels.values())) == 1


def prevalence(material: Material) -> list[dict]:
    """Share of labelled images with a pneumothorax by view, sex and age: rows of by, group, images, positive, share."""
    looks = [material.usable[name] for name in material.labels]
    edges = [low for low, _ in AGES.values()] + [np.inf]
    ages = pd.cut(pd.Series([one.years for one in looks], dtype=float), edges, right=False, labels=list(AGES))
    columns = {
        "view": [one.view or "unknown" for one in looks],
        "sex": [one.sex if one.sex in ("M", "F") else "unknown" for one in looks],
        "age": ages.astype(object).where(ages.notna(), "unknown"),
    }
    label = pd.Series(list(material.labels.values()), dtype=float)
    return [row for by, groups in columns.items() for row in _shares(by, pd.Series(groups, dtype=object), label)]


def _shares(by: str, groups: pd.Series, label: pd.Series) -> Iterator[dict]:
    for group, part in label.groupby(groups):
        counts = {"images": len(part), "positive": int(part.sum()), "share": round(float(part.mean()), 4)}
        yield {"by": by, "group": group} | counts
