"""The panel's figures are those of scikit-learn and MONAI, and a resample is what copying its rows would give."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from evaluation import metric_list, metrics, resampling
from tests.evaluation.panel_cases import made


@pytest.fixture(params=[1, 2, 6])
def cases(request) -> pd.DataFrame:
    """300 cases; with few digits of the probability many ties."""
    table = made(300)
    return table.assign(prob=table["prob"].round(request.param))


def values(table: pd.DataFrame, prevalence: float = 0.1) -> dict[str, float]:
    """Each metric of the sample itself."""
    patient, _ = resampling.number_patients(table)
    found = metric_list.resample_metrics(table, patient, resampling.draw_resamples(patient.max() + 1, 0, 1), prevalence)
    return {name: row[0] for name, row in found.items()}


def at(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    false, true, _ = reference.roc_curve(table["label"], table["prob"], drop_intermediate=False)
    return false, true


def test_figures_of_the_curve_are_those_of_scikit_learn(cases):
    found, (false, true) = values(cases), at(cases)
    label, prob = cases["label"], cases["prob"]
    expected = {
        "auc_pooled": reference.roc_auc_score(label, prob),
        "average_precision": reference.average_precision_score(label, prob),
        "sensitivity_at_specificity_93": true[1 - false >= 0.93 - 1e-12].max(),
        "sensitivity_at_specificity_95": true[1 - false >= 0.95 - 1e-12].max(),
        "specificity_at_sensitivity_95": (1 - false)[true >= 0.95 - 1e-12].max(),
        "brier": reference.brier_score_loss(label, prob),
        "log_loss": reference.log_loss(label, prob.clip(1e-7, 1 - 1e-7)),
        "sensitivity": reference.recall_score(label, cases["positive"]),
        "specificity": reference.recall_score(1 - label, ~cases["positive"]),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_a_share_of_exactly_seven_in_a_hundred_is_within_specificity_93():
    label = np.r_[np.ones(10), np.zeros(100)]
    table = made(110).assign(label=label, prob=np.r_[np.full(10, 0.5), np.full(7, 0.9), np.full(93, 0.1)])
    assert values(table)["sensitivity_at_specificity_93"] == 1
    assert values(table)["sensitivity_at_specificity_95"] == 0


def test_the_headline_auc_is_the_mean_over_folds_of_pairs_within_heads():
    table = made(400)
    folds = [
        metrics.roc_auc_within_groups(*(one[name].to_numpy() for name in ("label", "prob", "head")))
        for _, one in table.groupby("fold")
    ]
    assert values(table)["auc"] == pytest.approx(np.mean(folds), abs=1e-12)
    assert abs(values(table)["auc"] - values(table)["auc_pooled"]) > 1e-4


def test_predictive_values_are_those_of_the_images_at_their_own_prevalence():
    table = made(300)
    found = values(table, table["label"].mean())
    assert found["ppv"] == pytest.approx(reference.precision_score(table["label"], table["positive"]))
    assert found["npv"] == pytest.approx(reference.precision_score(1 - table["label"], ~table["positive"]))
    rare = values(table, 0.001)
    assert rare["ppv"] < 0.02
    assert rare["npv"] > 0.999


def test_figures_of_the_masks_are_means_of_each_image():
    table = pd.DataFrame(
        {"truth": [100, 50, 0, 0], "found": [100, 0, 0, 10], "overlap": [50, 0, 0, 0], "lesions": [2, 1, 0, 0],
         "hit": [1, 0, 0, 0], "extra": [0, 0, 0, 3], "nsd": [0.5, 0.0, 1.0, 0.0], "label": [1.0, 1.0, 0.0, 0.0]}
    )  # fmt: skip
    expected = {
        "kaggle_dice": (0.5 + 0 + 1 + 0) / 4, "floor": 0.5, "positives_dice": 0.25, "positives_iou": 1 / 6,
        "lesion_sensitivity": 1 / 3, "false_parts_per_image": 3 / 4, "nsd": 1.5 / 4, "positives_nsd": 0.25,
    }  # fmt: skip
    found = values(made(4).assign(**table))
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_a_resample_is_what_copies_of_its_rows_give():
    table = made(120)
    patient, _ = resampling.number_patients(table)
    counts = resampling.draw_resamples(patient.max() + 1, 5, 3)
    found = metric_list.resample_metrics(table, patient, counts, 0.1)
    for row in range(1, 6):
        copied = table.loc[np.repeat(table.index, counts[row][patient])].reset_index(drop=True)
        expected = values(copied.assign(image_id=copied.index.astype(str)))
        assert {name: values[row] for name, values in found.items()} == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_blocks_of_resamples_change_nothing(monkeypatch):
    table = made(60)
    patient, _ = resampling.number_patients(table)
    counts = resampling.draw_resamples(patient.max() + 1, 20, 3)
    whole = metric_list.resample_metrics(table, patient, counts, 0.1)
    monkeypatch.setattr(resampling, "BLOCK", 200)
    for name, row in metric_list.resample_metrics(table, patient, counts, 0.1).items():
        np.testing.assert_allclose(row, whole[name], rtol=1e-12)


def test_patients_are_drawn_whole_and_as_many_as_there_are():
    counts = resampling.draw_resamples(50, 400, 1)
    assert (counts[0] == 1).all()
    assert (counts.sum(axis=1) == 50).all()
    assert counts[1:].var() == pytest.approx(1, abs=0.1)  # multinomial: 1 - 1/50
    assert (resampling.draw_resamples(50, 400, 1) == counts).all()
    assert (resampling.draw_resamples(50, 400, 2) != counts).any()


def test_an_image_of_an_unknown_patient_is_one_of_its_own():
    table = made(4).assign(patient=["a", "a", None, None])
    patient, known = resampling.number_patients(table)
    assert not known
    assert patient.tolist() == [0, 0, 1, 2]
    assert resampling.number_patients(table.assign(patient=["a", "a", "b", "i2"]))[1]
