"""How leakage is measured: hand-made folds with a known number of leaked images."""

import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold

from evaluation import leakage

PATIENTS = {"a": "1", "b": "1", "c": "2", "d": "3", "e": "3", "f": "4"}
LABELS = {"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.0, "e": 0.0, "f": 1.0}


def table(**folds: str) -> pd.DataFrame:
    return pd.DataFrame({"image_id": folds.keys(), "fold": folds.values()})


def test_a_patient_in_two_folds():
    found = leakage.measure_leakage(table(a="0", b="1", c="0", d="0", e="0", f="1"), PATIENTS, None, LABELS)
    nought, one = found["folds"]
    assert (nought["fold"], nought["images"], nought["positive"]) == ("0", 4, 1)
    assert nought["patient"] == {"images": 1, "share": 0.25, "positive": 1, "positive_share": 1.0}
    assert one["patient"] == {"images": 1, "share": 0.5, "positive": 1, "positive_share": 0.5}
    assert found["all"]["patient"] == {"images": 2, "share": 0.3333, "positive": 2, "positive_share": 0.6667}
    assert found["all"]["duplicate"] is None
    assert found["leak"]


def test_a_near_duplicate_in_training():
    groups = {"a": 0, "b": 1, "c": 2, "d": 0}
    found = leakage.measure_leakage(table(a="0", b="0", c="1", d="1"), PATIENTS | {"b": "5"}, groups, None)
    assert found["all"]["duplicate"] == {"images": 2, "share": 0.5, "positive": None, "positive_share": None}
    assert found["all"]["patient"]["images"] == 0
    assert found["leak"]


def test_patients_kept_apart():
    found = leakage.measure_leakage(table(a="0", b="0", c="1", d="2", e="2", f="1"), PATIENTS, {}, LABELS)
    assert not found["leak"]
    assert [row["patient"]["images"] for row in found["folds"]] == [0, 0, 0]
    assert found["patients_known"] == found["images"] == 6


def test_a_split_is_trained_on_its_training_part_alone():
    folds = table(a="train", b="valid", c="valid", d="valid", e="test", f="train")
    found = leakage.measure_leakage(folds, PATIENTS, None, LABELS)
    assert [(row["fold"], row["patient"]["images"]) for row in found["folds"]] == [("test", 0), ("valid", 1)]


def test_an_image_in_two_folds_leaks_whoever_it_is():
    folds = pd.DataFrame({"image_id": ["a", "a", "b"], "fold": ["0", "1", "1"]})
    assert leakage.measure_leakage(folds, None, None, None)["leak"]
    assert leakage.measure_leakage(folds, {}, None, None)["all"]["patient"]["images"] == 2


def test_patients_unknown():
    found = leakage.measure_leakage(table(a="0", b="1"), None, None, LABELS)
    assert found["all"]["patient"] is None
    assert "patients unknown" in leakage.format_leakage(found)
    assert "patients known of 1 of 2 images only" in leakage.format_leakage(
        leakage.measure_leakage(table(a="0", b="1"), {"a": "1"}, {}, {})
    )


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_a_plain_count(seed):
    numbers = pd.Series(range(60)).sample(60, replace=True, random_state=seed) // 2
    folds = pd.DataFrame({"image_id": [f"i{k}" for k in range(60)], "fold": [str(k % 4) for k in range(60)]})
    patients = dict(zip(folds["image_id"], numbers.astype(str), strict=True))
    folds["patient"] = folds["image_id"].map(patients)
    seen = [bool(((folds["fold"] != row.fold) & (folds["patient"] == row.patient)).any()) for row in folds.itertuples()]
    assert leakage.measure_leakage(folds, patients, None, None)["all"]["patient"]["images"] == sum(seen)


def test_scikit_learns_grouped_folds_leak_nothing():
    patients = [str(k // 3) for k in range(90)]
    folds = pd.DataFrame({"image_id": [f"i{k}" for k in range(90)], "fold": ""})
    for number, (_, held_out) in enumerate(GroupKFold(5).split(patients, groups=patients)):
        folds.loc[held_out, "fold"] = str(number)
    assert not leakage.measure_leakage(folds, dict(zip(folds["image_id"], patients, strict=True)), None, None)["leak"]
