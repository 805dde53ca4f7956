"""All of stage 3 on a made-up dataset: its files, its scores, its words where something is missing."""

import json

import numpy as np
import pandas as pd
import pytest

from cxr import runs
from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError
from cxr.imaging import rle
from evaluation import metrics, panel
from stage3_stack import train
from stage3_stack.results import scores, table
from tests.stage3_stack.toy_world import (
    QUICK,
    World,
    command,
    open_stage,
    read_stacked,
    read_submission,
    small_config,
)


def test_every_image_gets_a_probability_and_the_test_a_mask(made: World):
    found = read_stacked(made)
    manifest = Prepared(made.paths.prepared_folder, made.paths.folds_csv).manifest
    assert found["split"].sort_index().equals(manifest["split"].sort_index())
    assert found["prob"].between(0, 1).all()
    sample = pd.read_csv(made.paths.data_folder / "sample_submission.csv").iloc[:, 0].drop_duplicates().tolist()
    assert read_submission(made).index.tolist() == sample
    assert read_submission(made).at["ID_gone", "EncodedPixels"] == rle.EMPTY


def test_masks_lie_where_the_lesions_are(made: World):
    scores = []
    for image_id, code in read_submission(made)["EncodedPixels"].drop("ID_gone").items():
        truth = made.truth[image_id]
        scores.append(metrics.dice_of_masks(truth, rle.decode_mask(code, *truth.shape)))
    figures = runs.read_metrics(made.paths.stage3_folder)
    assert figures["test"]["kaggle_dice"] == pytest.approx(np.mean(scores))
    positive = [made.truth[image_id].any() for image_id in read_submission(made).index.drop("ID_gone")]
    assert figures["test"]["floor"] == pytest.approx(1 - np.mean(positive))
    assert figures["test"]["positives_dice"] == pytest.approx(np.mean(np.array(scores)[positive]))
    assert figures["test"]["positives_dice"] > 0.5


def test_no_mask_below_the_gate(made: World):
    gate = runs.read_metrics(made.paths.stage3_folder)["decision"]["probability_threshold"]
    tests = read_stacked(made).query("split == 'test'")
    assert (tests["positive"] == (tests["prob"] >= gate)).all()
    closed = tests.index[~tests["positive"]]
    assert (read_submission(made).loc[closed, "EncodedPixels"] == rle.EMPTY).all()


def test_held_out_images_are_judged_by_their_own_folds_decision(made: World):
    record = json.loads((made.paths.stage3_folder / "decision.json").read_text())
    assert "the zone are nested" in record["note"]
    assert record["held_out"]["nested_by"] == "fold"
    folds = Prepared(made.paths.prepared_folder, made.paths.folds_csv).folds["fold"]
    held = read_stacked(made).query("split == 'train'")
    for fold in (0, 1):
        own = held[folds.loc[held.index] == fold]
        assert (own["positive"] == (own["prob"] >= record["held_out"][str(fold)]["probability_threshold"])).all()
    assert record["kaggle_dice_on_held_out"]["all_empty"] == pytest.approx(0.6)


def test_a_second_run_is_up_to_date(finished: World, monkeypatch, capsys):
    command(finished, train.main, monkeypatch, *QUICK)
    assert "stage 3: up to date" in capsys.readouterr().out


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


@pytest.mark.parametrize("name", ["predictions.parquet", "features.npz"])
def test_a_missing_file_names_the_stage_that_makes_it(finished: World, monkeypatch, name):
    (finished.paths.fold_folder(1, "b", 1) / name).unlink()
    with pytest.raises(UsageError, match=rf"{name} is missing; it is made by: stage 1"):
        command(finished, train.main, monkeypatch, *QUICK)


def test_the_figures_are_kept_with_the_settings_that_made_them(made: World):
    record = json.loads((made.paths.stage3_folder / "run.json").read_text())
    assert record["config"]["settings"]["dense"]["steps"] == int(QUICK[1])
    assert record["metrics"]["stacker"] | {"lightgbm_columns": []} == {
        "asked": "dense", "used": "dense", "lightgbm_columns": [],
    }  # fmt: skip
    assert record["metrics"]["stacker"]["lightgbm_columns"] == ["pca", "header", "masks"]  # there is no box file
    assert "../stage2/u/test/maps.npy" in record["inputs"]
    assert small_config().stacker == "dense"


def test_predictive_values_are_at_the_prevalence_that_is_stated(finished: World, monkeypatch):
    stated = []
    monkeypatch.setattr(
        scores, "compute_panel", lambda rows, prevalence: stated.append(prevalence) or panel.compute_panel(rows, 100)
    )
    train.run_stage3(open_stage(finished, settings=small_config(prevalence=0.03)))
    assert stated == [0.03]
