"""The closing table, with and without what it may show."""

import json

import pandas as pd
import pytest

from cxr import runs
from cxr.errors import UsageError
from evaluation import metrics
from stage3_stack import train
from stage3_stack.results import table
from tests.stage3_stack.toy_world import (
    QUICK,
    World,
    command,
    make_world,
    open_stage,
)


def test_the_closing_table(finished: World, monkeypatch, capsys):
    command(finished, table.main, monkeypatch)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 110
    for words in ("held-out patients", "floor: every mask empty", "large lesions only", "not a medical device"):
        assert words in text
    assert "dense head on their features ← in use" in text
    assert (finished.paths.run_folder / "results.md").read_text() in text
    results = json.loads((finished.paths.run_folder / "results.json").read_text())
    assert results["held_out"]["images"] == 120
    assert metrics.format_metric(results["held_out"]["stack"]["auc"]) in text


def test_boxes_stand_in_the_table(finished: World, monkeypatch, capsys):
    runs.write_json(finished.paths.stage0_folder / "run.json", {"metrics": {"hand_boxes": 7, "iou_mean": 0.812}})
    (finished.paths.data_folder / "test-boxes.csv").write_text("Filename,xmin,xmax,ymin,ymax\nID_000.png,0,10,0,10\n")
    finished.paths.boxes_csv.parent.mkdir(exist_ok=True)
    finished.paths.boxes_csv.write_text("Filename,xmin,xmax,ymin,ymax,score,source\nID_000.png,0,10,0,5,0.9,model\n")
    command(finished, table.main, monkeypatch)
    text = capsys.readouterr().out
    assert "hand-drawn: 7" in text
    assert ".812" in text
    assert [".500" in line for line in text.splitlines() if "as written" in line] == [True]
    assert [line.count("–") for line in text.splitlines() if "mean box" in line] == [2]


def test_one_trained_fold_is_nested_by_its_subfolds(home, monkeypatch, capsys):
    world = make_world(home, folds=3, train_folds=[1], patients=False)
    command(world, train.main, monkeypatch, *QUICK, "--stacker", "auto")
    record = json.loads((world.paths.stage3_folder / "decision.json").read_text())
    assert record["held_out"].keys() == {"nested_by", "0", "1", "2", "3"}
    command(world, table.main, monkeypatch)
    text = capsys.readouterr().out
    assert "held-out images; patients unknown" in text
    assert "the heads of the other subfolds saw" in text
    assert "the heads that scored the other subfolds" in record["note"]
    rows = pd.read_parquet(world.paths.stage3_folder / "cases.parquet").query("split == 'train'")
    leaks = json.loads((world.paths.stage3_folder / "leaks.json").read_text())
    assert leaks["images"] == leaks["all"]["images"] == len(rows)  # of those that are scored
    assert [part["fold"] for part in leaks["folds"]] == ["1"]
    assert "in use: in each fold the best of the others" in text


def test_what_is_undefined_is_a_dash(home, monkeypatch, capsys):
    world = make_world(home, train=16, test=2, positive_share=0)
    figures = train.run_stage3(open_stage(world))
    assert figures["held_out"]["stack"]["auc"] is figures["held_out"]["positives_dice"] is None
    assert figures["held_out"]["kaggle_dice"] == figures["held_out"]["floor"] == 1
    assert "in their place stands the members' mean logit" in capsys.readouterr().out
    results = figures | {"boxes": {"held_out": {}, "test": {}}}
    lines = table.render_table(results).splitlines()
    assert [line.count(" – ") for line in lines if "members' logits" in line or "large lesions only" in line] == [2, 2]


def test_without_the_tests_truth_there_is_one_column(finished: World):
    (finished.paths.data_folder / "test-truth.csv").unlink()
    figures = train.run_stage3(open_stage(finished))
    assert figures["test"] is None
    text = table.render_table(figures | {"boxes": {"held_out": {}, "test": {}}})
    assert {line.count("|") for line in text.splitlines()} == {3}


def test_before_any_run_the_table_names_stage_3(home, monkeypatch):
    world = make_world(home, train=16, test=2)
    with pytest.raises(UsageError, match="made by: stage 3"):
        command(world, table.main, monkeypatch)
