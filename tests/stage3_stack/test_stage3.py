"""All of stage 3 on a made-up dataset: its files, its table, its words where something is missing."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from cxr import runs, tables
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError, UsageError
from cxr.imaging import rle
from cxr.paths import ROOT
from evaluation import metrics, panel
from stage3_stack import predict, train
from stage3_stack.results import scores, table
from stage3_stack.stacking import tabular_features
from stage3_stack.stacking.cross_fitting import KINDS
from stage3_stack.stacking.fold_rows import read_fold_rows
from stage3_stack.stacking.out_of_fold import CombinedStacks, member_column, train_fold_stacks, uncalibrated_column
from stage3_stack.stacking.stacker_choice import apply_used_stacker, pick_stacker
from tests.stage3_stack.toy_world import QUICK, World, command, make_world, open_stage, small_config


def submitted(world: World) -> pd.DataFrame:
    return pd.read_csv(world.paths.submission_csv, dtype=str, skipinitialspace=True).set_index("ImageId")


def stacked(world: World) -> pd.DataFrame:
    return tables.read_table(world.paths.stage3_folder / "stacked.parquet", tables.STACKED, "").set_index("image_id")


def test_every_image_gets_a_probability_and_the_test_a_mask(made: World):
    found = stacked(made)
    manifest = Prepared(made.paths.prepared_folder, made.paths.folds_csv).manifest
    assert found["split"].sort_index().equals(manifest["split"].sort_index())
    assert found["prob"].between(0, 1).all()
    sample = pd.read_csv(made.paths.data_folder / "sample_submission.csv").iloc[:, 0].drop_duplicates().tolist()
    assert submitted(made).index.tolist() == sample
    assert submitted(made).at["ID_gone", "EncodedPixels"] == rle.EMPTY


def test_masks_lie_where_the_lesions_are(made: World):
    scores = []
    for image_id, code in submitted(made)["EncodedPixels"].drop("ID_gone").items():
        truth = made.truth[image_id]
        scores.append(metrics.dice_of_masks(truth, rle.decode_mask(code, *truth.shape)))
    figures = runs.read_metrics(made.paths.stage3_folder)
    assert figures["test"]["kaggle_dice"] == pytest.approx(np.mean(scores))
    positive = [made.truth[image_id].any() for image_id in submitted(made).index.drop("ID_gone")]
    assert figures["test"]["floor"] == pytest.approx(1 - np.mean(positive))
    assert figures["test"]["positives_dice"] == pytest.approx(np.mean(np.array(scores)[positive]))
    assert figures["test"]["positives_dice"] > 0.5


def test_no_mask_below_the_gate(made: World):
    gate = runs.read_metrics(made.paths.stage3_folder)["decision"]["probability_threshold"]
    tests = stacked(made).query("split == 'test'")
    assert (tests["positive"] == (tests["prob"] >= gate)).all()
    closed = tests.index[~tests["positive"]]
    assert (submitted(made).loc[closed, "EncodedPixels"] == rle.EMPTY).all()


def test_held_out_images_are_judged_by_their_own_folds_decision(made: World):
    record = json.loads((made.paths.stage3_folder / "decision.json").read_text())
    assert "the zone are nested" in record["note"]
    assert record["held_out"]["nested_by"] == "fold"
    folds = Prepared(made.paths.prepared_folder, made.paths.folds_csv).folds["fold"]
    held = stacked(made).query("split == 'train'")
    for fold in (0, 1):
        own = held[folds.loc[held.index] == fold]
        assert (own["positive"] == (own["prob"] >= record["held_out"][str(fold)]["probability_threshold"])).all()
    assert record["kaggle_dice_on_held_out"]["all_empty"] == pytest.approx(0.6)


def test_test_images_get_the_mean_over_folds(made: World):
    stage = open_stage(made)
    combined = train_fold_stacks(stage, tabular_features.gather_columns(stage, []))
    each = [read_fold_rows(stage, fold, {}) for fold in (0, 1)]
    name = "ID_003"
    for kind in KINDS:
        probs = [combined.stacks[rows.fold].probs[kind][rows.image_ids.tolist().index(name)] for rows in each]
        assert combined.new_rows.at[name, kind] == pytest.approx(np.mean(probs))
    for unit in ("a", "b"):
        files = [pd.read_parquet(made.paths.fold_folder(1, unit, fold) / "predictions.parquet") for fold in (0, 1)]
        probs = [file.set_index("image_id").at[name, "prob"] for file in files]
        assert combined.new_rows.at[name, member_column(unit)] == pytest.approx(np.mean(probs))


def test_rows_are_joined_by_image_and_not_by_place(finished: World):
    stage = open_stage(finished)
    before = read_fold_rows(stage, 0, {})
    path = finished.paths.fold_folder(1, "b", 0) / "predictions.parquet"
    tables.write_table(pd.read_parquet(path).iloc[::-1], path, tables.PREDICTIONS)
    after = read_fold_rows(stage, 0, {})
    for name in ("image_ids", "logits", "features", "labels", "subfold"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_auto_takes_the_best_on_held_out_rows():
    count = 40
    held = pd.DataFrame({"label": np.arange(count) % 2, "fold": np.arange(count) % 4 // 2, "subfold": 0})
    sharp, dull = np.where(held["label"] == 1, 0.9, 0.1), np.where(held["label"] == 1, 0.6, 0.4)
    held = held.assign(dense=0.5, mean=dull, logistic=sharp, lightgbm=1 - sharp)
    assert pick_stacker("auto", held) == "logistic"  # as good as the mean by AUC, better by log-loss
    assert pick_stacker("dense", held) == "dense"


def test_a_fold_is_scored_by_what_was_best_on_the_others():
    fold = np.repeat([0, 1, 2], 20)
    held = pd.DataFrame({"label": np.arange(60) % 2, "fold": fold, "subfold": 0, "split": "train"})
    sharp, dull = np.where(held["label"] == 1, 0.9, 0.1), np.full(60, 0.5)
    columns = {kind: dull for kind in ("dense", "mean", "logistic", "lightgbm")}
    poor = np.where(np.arange(60) % 4 == 1, 0.1, 0.5)  # AUC .25
    columns["dense"], columns["logistic"] = np.where(fold == 0, sharp, poor), np.where(fold == 0, 1 - sharp, sharp)
    held = held.assign(**columns, **{uncalibrated_column(kind): values / 2 for kind, values in columns.items()})
    stacked = apply_used_stacker("auto", CombinedStacks(held, held.iloc[:5], {}))
    own = stacked.held_out
    best = {0: "logistic", 1: "dense", 2: "dense"}  # mean AUCs of folds 0 and 2: dense .625, logistic .5
    assert stacked.used_stacker == "logistic"
    for key, kind in best.items():
        np.testing.assert_array_equal(own["prob"][fold == key], held[kind][fold == key])
        np.testing.assert_array_equal(own["uncalibrated"][fold == key], held[kind][fold == key] / 2)
    np.testing.assert_array_equal(stacked.new_rows["prob"], held["logistic"][:5])
    fixed = apply_used_stacker("mean", CombinedStacks(held, held.iloc[:5], {}))
    np.testing.assert_array_equal(fixed.held_out["prob"], held["mean"])


def test_a_second_run_is_up_to_date(finished: World, monkeypatch, capsys):
    command(finished, train.main, monkeypatch, *QUICK)
    assert "stage 3: up to date" in capsys.readouterr().out


def test_predict_gives_the_same_submission_and_follows_an_edited_decision(finished: World, monkeypatch, capsys):
    before, probs = finished.paths.submission_csv.read_text(), stacked(finished)
    finished.paths.submission_csv.unlink()
    command(finished, predict.main, monkeypatch)
    assert finished.paths.submission_csv.read_text() == before
    pd.testing.assert_frame_equal(stacked(finished), probs)
    path = finished.paths.stage3_folder / "decision.json"
    record = json.loads(path.read_text())
    record["test"]["probability_threshold"] = 1.0
    path.write_text(json.dumps(record))
    command(finished, predict.main, monkeypatch)
    assert (submitted(finished)["EncodedPixels"] == rle.EMPTY).all()
    assert "no readable image, so left empty: ID_gone" in capsys.readouterr().out
    del record["test"]["top_score_threshold"]
    path.write_text(json.dumps(record))
    with pytest.raises(UsageError, match="'test' needs the numbers"):
        command(finished, predict.main, monkeypatch)


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


@pytest.mark.parametrize(("members", "segmenters"), [([], ["u"]), (["a"], [])])
def test_a_recipe_may_lack_classifiers_or_segmenters(finished: World, members, segmenters, capsys):
    stage = open_stage(finished, members=members, segmenters=segmenters)
    finished.paths.submission_csv.unlink()
    figures = train.run_stage3(stage)
    assert finished.paths.submission_csv.exists() == bool(segmenters)
    assert ("kaggle_dice" in figures["test"]) == bool(segmenters)
    assert figures["held_out"]["stack"]["auc"] > 0.6
    assert list(figures["test"]["members"]) == (members or ["maps"])
    text = table.render_table(figures | {"boxes": {"held_out": {}, "test": {}}})
    assert ("segmenters' maps" in text, "Where is it" in text) == (not members, bool(segmenters))


def test_without_the_tests_truth_there_is_one_column(finished: World):
    (finished.paths.data_folder / "test-truth.csv").unlink()
    figures = train.run_stage3(open_stage(finished))
    assert figures["test"] is None
    text = table.render_table(figures | {"boxes": {"held_out": {}, "test": {}}})
    assert {line.count("|") for line in text.splitlines()} == {3}


def test_an_image_that_a_fold_was_trained_on_is_refused(finished: World):
    path = finished.paths.fold_folder(1, "a", 0) / "predictions.parquet"
    predictions = pd.read_parquet(path)
    folds = Prepared(finished.paths.prepared_folder, finished.paths.folds_csv).folds
    trained_on = folds.index[folds["fold"] == 1][0]
    extra = pd.DataFrame({"image_id": [trained_on], "split": ["train"], "prob": [0.5]})
    tables.write_table(pd.concat([predictions, extra]), path, tables.PREDICTIONS)
    with pytest.raises(UsageError, match="the held-out images are not those of fold 0"):
        train.run_stage3(open_stage(finished))


def test_a_probability_that_is_no_number_is_refused(finished: World):
    path = finished.paths.fold_folder(1, "a", 1) / "predictions.parquet"
    predictions = pd.read_parquet(path)
    predictions.loc[3, "prob"] = np.nan
    tables.write_table(predictions, path, tables.PREDICTIONS)
    with pytest.raises(DataError, match="a probability is not a number"):
        train.run_stage3(open_stage(finished))


@pytest.mark.parametrize("name", ["predictions.parquet", "features.npz"])
def test_a_missing_file_names_the_stage_that_makes_it(finished: World, monkeypatch, name):
    (finished.paths.fold_folder(1, "b", 1) / name).unlink()
    with pytest.raises(UsageError, match=rf"{name} is missing; it is made by: stage 1"):
        command(finished, train.main, monkeypatch, *QUICK)


def test_before_any_run_the_table_names_stage_3(home, monkeypatch):
    world = make_world(home, train=16, test=2)
    with pytest.raises(UsageError, match="made by: stage 3"):
        command(world, table.main, monkeypatch)


def test_the_figures_are_kept_with_the_settings_that_made_them(made: World):
    record = json.loads((made.paths.stage3_folder / "run.json").read_text())
    assert record["config"]["settings"]["dense"]["steps"] == int(QUICK[1])
    assert record["metrics"]["stacker"] | {"lightgbm_columns": []} == {
        "asked": "dense", "used": "dense", "lightgbm_columns": [],
    }  # fmt: skip
    assert record["metrics"]["stacker"]["lightgbm_columns"] == ["pca", "header", "masks"]  # there is no box file
    assert "../stage2/u/test/maps.npy" in record["inputs"]
    assert small_config().stacker == "dense"


def test_predict_waits_for_no_one_and_writes_nothing_beside_a_training(finished: World, monkeypatch):
    with runs.lock_folder(finished.paths.stage3_folder):
        before = finished.paths.submission_csv.read_bytes()
        code = "import sys; from stage3_stack import predict; from cxr.errors import run_main; run_main(predict.main)"
        environment = os.environ | {"RECIPE": str(finished.recipe_file), "DATA": str(finished.paths.data_folder)}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True,
                              check=False)  # fmt: skip
    assert done.returncode == 2
    assert "another process" in done.stderr
    assert finished.paths.submission_csv.read_bytes() == before


@pytest.mark.parametrize("name", ["stage3/heads.npz", "stage3/stacked.parquet"])
def test_predict_names_a_file_that_is_cut(finished: World, monkeypatch, name):
    path = finished.paths.run_folder / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match=rf"{path.name} is missing, cut or changed.*bash run_all\.sh"):
        command(finished, predict.main, monkeypatch)


def test_an_edited_decision_and_what_predict_makes_of_it_stay(finished: World, monkeypatch, capsys):
    path = finished.paths.stage3_folder / "decision.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"test": record["test"] | {"probability_threshold": 1.0}}))
    command(finished, predict.main, monkeypatch)
    submission = finished.paths.submission_csv.read_bytes()
    capsys.readouterr()
    command(finished, train.main, monkeypatch, *QUICK)
    assert capsys.readouterr().out == "stage 3: up to date\n"
    assert finished.paths.submission_csv.read_bytes() == submission
    finished.paths.submission_csv.unlink()
    command(finished, train.main, monkeypatch, *QUICK)
    assert finished.paths.submission_csv.is_file()


def test_predictive_values_are_at_the_prevalence_that_is_stated(finished: World, monkeypatch):
    stated = []
    monkeypatch.setattr(
        scores, "compute_panel", lambda rows, prevalence: stated.append(prevalence) or panel.compute_panel(rows, 100)
    )
    train.run_stage3(open_stage(finished, settings=small_config(prevalence=0.03)))
    assert stated == [0.03]
