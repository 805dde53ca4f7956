"""The parts of a data set that a panel looks at one by one: view, sex, age, size of the pneumothorax, chest tube."""

import numpy as np
import pandas as pd

from evaluation.metrics import THIRDS, size_thirds

AGE_GROUPS = {"under 18": (0, 18), "18 to 39": (18, 40), "40 to 64": (40, 65), "65 and over": (65, np.inf)}
CHEST_TUBE = "chest_tube"
"""A column that cases may have: 1, 0 or null."""

SIZE_METRICS = (
    "auc", "auc_pooled", "sensitivity_at_specificity_93", "sensitivity_at_specificity_95",
    "specificity_at_sensitivity_95", "sensitivity", "positives_dice", "positives_iou", "positives_nsd",
    "lesion_sensitivity",
)  # fmt: skip
"""What means something for a third of the positives against all negatives: nothing that counts how many are ill."""


def group_cases(cases: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """Column -> group -> its images, bool [n]; images whose value is unknown are in none, empty groups left out.

    A size is a third of the positives, with all negatives (`evaluation.metrics.size_thirds` of the lesion's share).
    """
    groups_by_column = {"view": _group_by_value(cases["view"]), "sex": _group_by_value(cases["sex"])}
    age = cases["age"].to_numpy(float)
    groups_by_column["age"] = {name: (age >= low) & (age < high) for name, (low, high) in AGE_GROUPS.items()}
    groups_by_column["size"] = _group_by_size(cases)
    if CHEST_TUBE in cases:
        tube = cases[CHEST_TUBE]
        groups_by_column["chest tube"] = {
            name: (tube.notna() & (tube == value)).to_numpy(bool) for name, value in {"yes": True, "no": False}.items()
        }
    return {
        column: {name: rows for name, rows in parts.items() if rows.any()} for column, parts in groups_by_column.items()
    }


def _group_by_value(column: pd.Series) -> dict[str, np.ndarray]:
    text = column.fillna("").astype(str).str.strip()
    return {value: (text == value).to_numpy() for value in sorted(set(text) - {""})}


def _group_by_size(cases: pd.DataFrame) -> dict[str, np.ndarray]:
    thirds = size_thirds(cases["share"].to_numpy(float))
    is_negative = cases["label"].to_numpy() < 0.5
    return {name: (thirds == third) | is_negative for third, name in enumerate(THIRDS) if (thirds == third).any()}
