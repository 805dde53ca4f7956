"""The parts of a data set that a panel looks at one by one: view, sex, age, size of the pneumothorax, chest tube."""

import numpy as np
import pandas as pd

from cxr.metrics import THIRDS, size_thirds

AGES = {"under 18": (0, 18), "18 to 39": (18, 40), "40 to 64": (40, 65), "65 and over": (65, np.inf)}
CHEST_TUBE = "chest_tube"
"""A column that cases may have: 1, 0 or null."""

BY_SIZE = (
    "auc", "auc_pooled", "sensitivity_at_specificity_93", "sensitivity_at_specificity_95",
    "specificity_at_sensitivity_95", "sensitivity", "positives_dice", "positives_iou", "positives_nsd",
    "lesion_sensitivity",
)  # fmt: skip
"""What means something for a third of the positives against all negatives: nothing that counts how many are ill."""


def groups(cases: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """Column -> group -> its images, bool [n]; images whose value is unknown are in none, empty groups left out.

    A size is a third of the positives, with all negatives: `cxr.metrics.size_thirds` of the share that is lesion.
    """
    found = {"view": _values(cases["view"]), "sex": _values(cases["sex"])}
    age = cases["age"].to_numpy(float)
    found["age"] = {name: (age >= low) & (age < high) for name, (low, high) in AGES.items()}
    found["size"] = _sizes(cases)
    if CHEST_TUBE in cases:
        tube = cases[CHEST_TUBE]
        found["chest tube"] = {
            name: (tube.notna() & (tube == value)).to_numpy(bool) for name, value in {"yes": True, "no": False}.items()
        }
    return {by: {name: rows for name, rows in parts.items() if rows.any()} for by, parts in found.items()}


def _values(column: pd.Series) -> dict[str, np.ndarray]:
    text = column.fillna("").astype(str).str.strip()
    return {value: (text == value).to_numpy() for value in sorted(set(text) - {""})}


def _sizes(cases: pd.DataFrame) -> dict[str, np.ndarray]:
    thirds = size_thirds(cases["share"].to_numpy(float))
    healthy = cases["label"].to_numpy() < 0.5
    return {name: (thirds == third) | healthy for third, name in enumerate(THIRDS) if (thirds == third).any()}
