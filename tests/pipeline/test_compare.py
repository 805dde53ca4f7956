"""Two runs side by side: the command, its table and file, and what it refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr import tables
from cxr.errors import DataError, UsageError
from evaluation import paired_differences, ratios, resampling
from evaluation.panel import compute_panel
from pipeline import compare
from tests.evaluation.panel_cases import made


def write_run(folder: Path, cases: pd.DataFrame) -> Path:
    """A run's folder with these cases."""
    tables.write_table(cases, folder / "stage3" / "cases.parquet", tables.CASES)
    return folder


def improve_scores(table: pd.DataFrame) -> pd.DataFrame:
    """The same images, scored by a better model."""
    prob = (table["prob"] + 3 * table["label"]) / 4
    return table.assign(prob=prob, positive=prob > 0.5)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs on one data set; the second lacks some images, has its rows in another order, and a path with spaces."""
    data, table = tmp_path / "with spaces" / "siim", made(200)
    table = table.assign(split=np.where(np.arange(200) < 150, "train", "test"))
    better_table = improve_scores(table).sample(180, random_state=1)
    return write_run(data / "plain", table), write_run(data / "clever", better_table)


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments)])
    compare.main()


def test_the_command_prints_a_table_and_writes_what_it_shows(runs, monkeypatch, capsys):
    run_command(monkeypatch, *runs, "--resamples", 200, "--prevalence", 0.2)
    printed = capsys.readouterr().out
    comparison = json.loads((runs[0] / "compare" / "clever.json").read_text())
    auc = comparison["held_out"]["metrics"]["auc_pooled"]
    assert auc["difference"] == pytest.approx(auc["second"] - auc["first"])
    assert 0 < auc["low"] < auc["difference"] < auc["high"]
    assert 0 < auc["p"] < 0.001
    assert comparison["held_out"]["images"] + comparison["test"]["images"] == 180
    assert comparison["held_out"]["resampled"] == "by patient"
    assert printed.count("resampled by patient; ppv and npv at prevalence .200\n") == 2
    (line,) = [line for line in printed.split("test: ")[0].splitlines() if line.startswith("auc pooled")]
    assert line.split()[2:] == compare._metric_line("auc_pooled", auc).split()[2:]
    assert str(runs[0] / "compare" / "clever.json") in printed


def test_each_side_is_what_the_panel_says_of_the_common_images(runs):
    comparison = compare.compare_runs(*runs, 100, 1, 0.1)["held_out"]["metrics"]
    first, second = (pd.read_parquet(run / "stage3" / "cases.parquet") for run in runs)
    common = first[first["image_id"].isin(second["image_id"])].sort_values("image_id")
    alone = compute_panel(common, 100, prevalence=0.1)["held_out"]["all"]
    assert {name: row["first"] for name, row in comparison.items()} == pytest.approx(
        {name: row["value"] for name, row in alone.items() if name != "floor"}
    )


def test_a_run_against_itself_differs_in_nothing(runs):
    for name, row in compare.compare_runs(runs[0], runs[0], 100, 1, None)["held_out"]["metrics"].items():
        assert (row["difference"], row["p"]) == (0, 1), name
        assert row["low"] <= 0 <= row["high"]


def test_p_and_interval_agree(runs):
    for row in compare.compare_runs(*runs, 300, 1, None)["held_out"]["metrics"].values():
        assert (row["p"] < 0.05) == (row["low"] > 0 or row["high"] < 0)


def test_two_models_that_know_equally_much_rarely_differ():
    """Of 200 pairs about 10 have p < .05: chance brings 3 to 19 (99.7 % of times)."""
    table, below = made(200), 0
    patient, _ = resampling.number_patients(table)
    for seed in range(200):
        random = np.random.default_rng(seed)
        counts = resampling.draw_resamples(100, 200, seed)
        pair = [table.assign(prob=0.3 * table["label"] + 0.7 * random.random(200)) for _ in range(2)]
        terms = [ratios.build_probability_terms(cases) for cases in pair]
        rows = [ratios.compute_ratios(term, patient, counts)["brier"] for term in terms]
        below += paired_differences.compare_metric("brier", *rows, {"all": 100})["p"] < 0.05
    assert 3 <= below <= 19


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 0.0}, "different data: label of image"),
        ({"truth": 7}, "different data: truth of image"),
        ({"split": "test"}, None),
    ],
)
def test_other_truths_are_other_data(tmp_path, change, message):
    table = made(40)
    first, second = write_run(tmp_path / "d/a", table), write_run(tmp_path / "d/b", table.assign(**change))
    with pytest.raises(UsageError, match=message or "no image in common"):
        compare.compare_runs(first, second, 100, 1, None)


def test_runs_of_two_data_sets_without_common_images_or_cases_are_refused(tmp_path):
    table = made(20)
    first = write_run(tmp_path / "d/a", table)
    with pytest.raises(UsageError, match=r"different data: .* is of d, .* of e$"):
        compare.compare_runs(first, write_run(tmp_path / "e/a", table), 100, 1, None)
    with pytest.raises(UsageError, match="no image in common"):
        compare.compare_runs(
            first, write_run(tmp_path / "d/b", table.assign(image_id=table["image_id"] + "x")), 100, 1, None
        )
    with pytest.raises(UsageError, match=r"cases.parquet is missing; it is made by: .*stage 3"):
        compare.compare_runs(first, tmp_path / "d/none", 100, 1, None)


def test_a_difference_whose_resamples_show_no_error_has_no_p():
    table = made(20)
    sides = [table.assign(hit=table["lesions"] * value) for value in (0, 1)]
    row = paired_differences.compare_models(*sides, 100, 1, 0.1)["lesion_sensitivity"]
    assert row == {"first": 0, "second": 1, "difference": 1, "low": None, "high": None, "p": None}


def test_shares_differ_by_one_at_most():
    """Almost all of it is right on one side only: its error times Student's deviate reaches beyond 1."""
    table = made(60)
    good = table["label"] - (table["image_id"] == table["image_id"][table["label"] > 0].iloc[0])
    for pair in ((1 - table["label"], good), (good, 1 - table["label"])):
        row = paired_differences.compare_models(*(table.assign(prob=prob) for prob in pair), 200, 1, 0.1)["auc_pooled"]
        assert 0.9 < abs(row["difference"]) < 1
        assert max(abs(row["low"]), abs(row["high"])) == 1


def test_damaged_cases_are_named(runs):
    path = runs[1] / "stage3" / "cases.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"clever/stage3/cases.parquet cannot be read"):
        compare.compare_runs(*runs, 100, 1, None)


@pytest.mark.parametrize(("flag", "value"), [("--resamples", "5"), ("--prevalence", "20"), ("--prevalence", "0")])
def test_settings_that_mean_nothing_are_refused(runs, monkeypatch, flag, value):
    with pytest.raises(UsageError, match=f"{flag[2:]} {value}"):
        run_command(monkeypatch, *runs, flag, value)
    assert not (runs[0] / "compare").exists()


def test_patients_that_one_run_knows_are_known_of_both(runs):
    path = runs[0] / "stage3" / "cases.parquet"
    tables.write_table(pd.read_parquet(path).assign(patient=None), path, tables.CASES)
    for pair in (runs, runs[::-1]):
        assert compare.compare_runs(*pair, 100, 1, None)["held_out"]["resampled"] == "by patient"
