"""The panel as a whole: its groups, its intervals, and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from cxr.errors import DataError, UsageError
from evaluation import intervals
from evaluation.panel import compute_panel
from evaluation.subgroups import group_cases
from tests.evaluation.panel_cases import made


def leaves(found: dict) -> list[dict]:
    """Every figure in a part of the panel."""
    groups = [figures for parts in found["by"].values() for figures in parts.values()]
    return [figure for one in (found["all"], *groups) for figure in one.values() if isinstance(figure, dict)]


def test_every_figure_of_every_group_lies_within_its_interval():
    table = made(300).assign(chest_tube=np.arange(300) % 3 == 0)
    found = compute_panel(table, 200)["held_out"]
    assert set(found["by"]) == {"view", "sex", "age", "size", "chest tube"}
    assert [set(parts) for parts in found["by"].values()][:2] == [{"AP", "PA"}, {"F", "M"}]
    assert len(leaves(found)) > 200
    for figure in leaves(found):
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"]
    assert json.loads(json.dumps(found)) == found


def test_held_out_and_test_are_judged_apart():
    table = made(200).assign(split=np.where(np.arange(200) < 120, "train", "test"))
    found = compute_panel(table, 100)
    assert (found["held_out"]["images"], found["test"]["images"]) == (120, 80)
    alone = compute_panel(table[table["split"] == "test"], 100)
    assert alone["held_out"] is None
    assert alone["test"] == found["test"]


def leaf(by: dict, column: str, group: str) -> dict[str, dict]:
    return {name: figure for name, figure in by[column][group].items() if isinstance(figure, dict)}


def test_unknown_patients_are_said_and_make_intervals_narrower():
    table = made(300)
    twins = pd.concat([table, table.assign(image_id=table["image_id"] + "b")])  # every image twice: no news
    by_patient = compute_panel(twins, 400)["held_out"]
    by_image = compute_panel(twins.assign(patient=None), 400)["held_out"]
    assert (by_patient["patients"], by_patient["resampled"]) == (150, "by patient")
    assert (by_image["patients"], by_image["resampled"]) == (None, "by image, too narrow")
    width = [found["all"]["brier"]["high"] - found["all"]["brier"]["low"] for found in (by_patient, by_image)]
    assert width[1] < 0.8 * width[0]
    some = compute_panel(twins.assign(patient=twins["patient"].where(twins["label"] > 0)), 100)["held_out"]
    assert (some["patients"], some["resampled"]) == (None, "by image, too narrow")


def test_the_same_seed_gives_the_same_panel():
    table = made(60)
    assert compute_panel(table, 100, seed=5) == compute_panel(table, 100, seed=5) != compute_panel(table, 100, seed=6)


def test_a_stated_prevalence_moves_the_predictive_values_alone():
    table = made(100)
    own, stated = (compute_panel(table, 100, prevalence=value)["held_out"] for value in (None, 0.01))
    assert (own["prevalence"], stated["prevalence"]) == (table["label"].mean(), 0.01)
    assert {name for name in own["all"] if own["all"][name] != stated["all"][name]} == {"ppv", "npv"}


def test_without_masks_there_are_no_figures_of_masks():
    found = compute_panel(made(60).assign(nsd=np.nan), 100)["held_out"]
    assert "auc" in found["all"]
    assert not {"kaggle_dice", "nsd", "lesion_sensitivity"} & set(found["all"])


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_alone_has_no_auc_and_no_crash(label):
    found = compute_panel(made(40).assign(label=label), 100)["held_out"]["all"]
    for name in ("auc", "auc_pooled", "average_precision", "sensitivity_at_specificity_93"):
        assert found[name] == {"value": None, "low": None, "high": None}
    assert found["brier"]["value"] > 0


@pytest.mark.parametrize("prevalence", [0.0, 1.0, 20])
def test_a_prevalence_that_means_nothing_is_refused(prevalence):
    with pytest.raises(UsageError, match=f"prevalence {prevalence}: "):
        compute_panel(made(10), 100, prevalence=prevalence)


def test_a_group_is_worth_what_its_images_alone_are():
    table = made(200)
    found = compute_panel(table, 100, prevalence=0.1)["held_out"]["by"]
    small = group_cases(table)["size"]["small"]
    parts = {("view", "AP"): table["view"] == "AP", ("sex", "F"): table["sex"] == "F", ("size", "small"): small}
    for group, rows in parts.items():
        alone = compute_panel(table[rows], 100, prevalence=0.1)["held_out"]["all"]
        here = {name: figure["value"] for name, figure in leaf(found, *group).items() if name != "calibration_error"}
        assert len(here) >= 10
        assert here == pytest.approx({name: alone[name]["value"] for name in here})


def test_test_images_of_one_head_have_one_auc():
    found = compute_panel(made(60).assign(split="test", fold=-1, head=0), 100)["test"]["all"]
    assert found["auc"] == pytest.approx(found["auc_pooled"])


def test_folds_of_one_class_each_have_no_mean_auc():
    table = made(60)
    found = compute_panel(table.assign(fold=table["label"].astype(int)), 100)["held_out"]["all"]
    assert found["auc"]["value"] is None
    assert found["auc_pooled"]["value"] > 0.5


def test_one_patient_has_values_and_no_intervals():
    found = compute_panel(made(20).assign(patient="one"), 100)["held_out"]["all"]
    for name in ("brier", "calibration_error"):
        assert found[name]["value"] > 0
        assert found[name]["low"] is None
        assert found[name]["high"] is None


def test_flawless_answers_still_have_an_interval():
    table = made(100)
    flawless = table.assign(prob=table["label"], positive=table["label"] > 0.5)
    found = compute_panel(flawless, 100)["held_out"]["all"]
    for name in ("auc_pooled", "specificity", "sensitivity"):
        assert found[name]["value"] == found[name]["high"] == 1
        assert 0.8 < found[name]["low"] < 0.97
    assert found["calibration_error"] == {"value": 0, "low": None, "high": None, "counted": 0}
    assert found["log_loss"] == {"value": pytest.approx(1e-7, rel=1e-3), "low": None, "high": None}


def test_sure_and_always_wrong():
    table = made(100)
    found = compute_panel(table.assign(prob=1 - table["label"], positive=table["label"] < 0.5), 100)["held_out"]["all"]
    for name in ("auc", "auc_pooled", "sensitivity", "specificity_at_sensitivity_95", "ppv"):
        assert found[name]["value"] == found[name]["low"] == 0
        assert 0.03 < found[name]["high"] < 0.2
    assert list(found["calibration_error"].values()) == pytest.approx([1, 1, 1, 1], abs=1e-4)
    assert found["log_loss"]["value"] == pytest.approx(-np.log(1e-7))


def test_equal_probabilities_rank_nothing():
    found = compute_panel(made(100).assign(prob=0.4, positive=False), 100)["held_out"]["all"]
    assert found["auc"]["value"] == found["auc_pooled"]["value"] == 0.5
    assert found["average_precision"]["value"] == pytest.approx(made(100)["label"].mean())
    assert found["sensitivity_at_specificity_93"]["value"] == found["specificity_at_sensitivity_95"]["value"] == 0
    assert found["ppv"] == {"value": None, "low": None, "high": None}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("prob", np.nan, "image3: its probability"), ("prob", 1.5, "probability"), ("label", np.nan, "its label"),
     ("label", 0.5, "its label"), ("nsd", np.nan, "image3: its nsd")],
)  # fmt: skip
def test_cases_that_cannot_be_judged_are_named(column, value, message):
    table = made(10)
    table.loc[3, column] = value
    with pytest.raises(DataError, match=message):
        compute_panel(table, 100)


def test_a_missing_column_is_named():
    with pytest.raises(UsageError, match="hit"):
        compute_panel(made(10).drop(columns="hit"), 100)


def test_groups_leave_out_what_is_unknown():
    table = made(6).assign(view=["AP", "PA", None, "", "AP", " PA"], age=[3, 18, 64, 65, np.nan, 40], sex=None)
    found = group_cases(table)
    assert {name: rows.nonzero()[0].tolist() for name, rows in found["view"].items()} == {"AP": [0, 4], "PA": [1, 5]}
    assert [rows.sum() for rows in found["age"].values()] == [1, 1, 2, 1]
    assert found["sex"] == {}


def test_a_third_of_size_is_against_all_negatives():
    table = made(90)
    sizes = group_cases(table)["size"]
    assert list(sizes) == ["small", "middle", "large"]
    for rows in sizes.values():
        assert rows[table["label"] < 0.5].all()
    assert sum(rows[table["label"] > 0.5].sum() for rows in sizes.values()) == table["label"].sum()


def test_the_interval_of_a_share_is_wilsons_where_images_are_patients():
    """40 of 100: 30.9 % to 49.8 % (Wilson, JASA 1927); Student's deviate in place of the normal one widens it."""
    resampled = 0.4 + np.sqrt(0.4 * 0.6 / 100) * np.array([-1.0, 1.0] * 500)
    low, high = intervals.compute_share_interval(intervals.ResampledMetric(0.4, resampled, 10**6))
    assert (low, high) == (pytest.approx(0.3094, abs=2e-4), pytest.approx(0.4980, abs=2e-4))
    few = intervals.ResampledMetric(0.4, resampled, 11)
    assert few.critical_value == pytest.approx(2.2281, abs=1e-3)
    assert intervals.compute_share_interval(few)[0] < low


def test_the_standard_error_is_that_of_scipys_bootstrap():
    table = made(200).assign(patient=[f"p{number}" for number in range(200)])
    loss = (table["prob"] - table["label"]).to_numpy() ** 2
    expected = bootstrap((loss,), np.mean, n_resamples=4000, method="percentile", rng=1).standard_error
    found = compute_panel(table, 4000)["held_out"]["all"]["brier"]
    assert (found["high"] - found["low"]) / 2 / 1.972 == pytest.approx(expected, rel=0.06)
