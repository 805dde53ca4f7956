"""Two runs in one page, by the command."""

import sys

import numpy as np
import pytest

from cxr import tables
from cxr.errors import UsageError
from cxr.files import write_json
from evaluation.panel import compute_panel
from pipeline import compare as figures
from pipeline.report import __main__ as command
from pipeline.report import compare
from tests.evaluation.panel_cases import made
from tests.pipeline.html_checks import check_page


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs of one data set, the second better and without some images; a path with spaces."""
    monkeypatch.setattr(compare, "RESAMPLES", 100)
    table = made(200).assign(split=np.where(np.arange(200) < 150, "train", "test"))
    folders = [tmp_path / "with spaces" / "siim" / name for name in ("plain", "clever")]
    for folder, prob in zip(folders, (table["prob"], (table["prob"] + table["label"]) / 2), strict=True):
        cases = table.assign(prob=prob)[: 200 if folder.name == "plain" else 190]
        tables.write_table(cases, folder / "stage3" / "cases.parquet", tables.CASES)
    write_json(folders[0] / "stage3" / "panel.json", compute_panel(table, 100))
    return folders


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["report", *map(str, arguments)])
    command.main()


def test_differences_curves_and_headlines(runs, monkeypatch, capsys):
    run(monkeypatch, "--compare", *runs)
    path = runs[0] / "compare" / "clever.html"
    assert str(path) in capsys.readouterr().out
    page = check_page(path.read_text(encoding="utf-8"))
    assert page.ids == ["held_out", "test", "headlines"]
    assert len(page.sources) == 2  # the curves of both parts
    auc = figures.compare_runs(*runs, 100, 1, None)["test"]["metrics"]["auc"]
    values = [f"{auc[key]:.3f}".replace("0.", ".") for key in ("first", "second", "difference", "low", "high")]
    assert "AUC, mean over folds {} {} {} {} to {}".format(*values) in page.text.split("50 images", 1)[-1]
    assert "B: clever: stage3/panel.json is missing." in page.text


@pytest.mark.parametrize(
    ("odd", "message"),
    [([1], "A: plain: stage3/panel.json is missing."), ({"held_out": {"all": {}}}, "should hold (KeyError: ")],
)
def test_an_odd_panel_spoils_its_own_chapter_alone(runs, monkeypatch, odd, message):
    write_json(runs[0] / "stage3" / "panel.json", odd)
    run(monkeypatch, "--compare", *runs)
    page = check_page((runs[0] / "compare" / "clever.html").read_text(encoding="utf-8"))
    assert page.ids == ["held_out", "test", "headlines"]
    assert message in page.text.split("Each run on all its own images")[-1]


def test_what_cannot_be_compared_is_refused_and_nothing_written(runs, monkeypatch, tmp_path):
    with pytest.raises(UsageError, match=r"cases\.parquet is missing"):
        run(monkeypatch, "--compare", runs[0], runs[0].with_name("gone"), "--out", tmp_path / "out.html")
    with pytest.raises(UsageError, match="--out goes with --compare"):
        run(monkeypatch, "--out", tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()
