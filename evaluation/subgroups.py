"""The subgroups for which the panel is repeated: view, sex, age, size of the pneumothorax, chest tube."""

import numpy as np
import pandas as pd

from evaluation.metrics import THIRDS, size_thirds

AGE_GROUPS = {"under 18": (0, 18), "18 to 39": (18, 40), "40 to 64": (40, 65), "65 and over": (65, np.inf)}
CHEST_TUBE = "chest_tube"
"""An optional column of the cases: 1, 0 or null."""

SIZE_METRICS = (
    "auc", "auc_pooled", "sensitivity_at_specificity_93", "sensitivity_at_specificity_95",
    "specificity_at_sensitivity_95", "sensitivity", "positives_dice", "positives_iou", "positives_nsd",
    "lesion_sensitivity",
)  # fmt: skip
"""Metrics that are meaningful for a third of the positives with all negatives: none that depends on the prevalence."""


def group_cases(cases: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """Column -> group -> which images are in it, bool [n].

    Images whose value is unknown are in no group; empty groups are left out. A group of column `size` is a third of the
    positives by the lesion's share of the image, with all negatives (`evaluation.metrics.size_thirds`).
    """
    groups_by_column = {"view": _group_by_value(cases["view"]), "sex": _group_by_value(cases["sex"])}
    age = cases["age"].to_numpy(float)
    groups_by_column["age"] = {name: (age >= low) & (age < high) for name, (low, high) in AGE_GROUPS.items()}
    groups_by_column["size"] = _group_by_size(cases)
    if CHEST_TUBE in cases:
        groups_by_column["chest tube"] = _group_by_chest_tube(cases[CHEST_TUBE])
    return {
        column: {name: rows for name, rows in groups.items() if rows.any()}
        for column, groups in groups_by_column.items()
    }


def _group_by_chest_tube(tube: pd.Series) -> dict[str, np.ndarray]:
    return {name: (tube.notna() & (tube == value)).to_numpy(bool) for name, value in {"yes": True, "no": False}.items()}


def _group_by_value(column: pd.Series) -> dict[str, np.ndarray]:
    text = column.fillna("").astype(str).str.strip()
    return {value: (text == value).to_numpy() for value in sorted(set(text) - {""})}


def _group_by_size(cases: pd.DataFrame) -> dict[str, np.ndarray]:
    thirds = size_thirds(cases["share"].to_numpy(float))
    is_negative = cases["label"].to_numpy() < 0.5
    return {name: (thirds == third) | is_negative for third, name in enumerate(THIRDS) if (thirds == third).any()}
