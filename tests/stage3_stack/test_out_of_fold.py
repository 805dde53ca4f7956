"""The tables of all folds: rows are joined by image, and a stacker is chosen without the images that it scores."""

import numpy as np
import pandas as pd
import pytest

from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError, UsageError
from stage3_stack import train
from stage3_stack.stacking import tabular_features
from stage3_stack.stacking.cross_fitting import KINDS
from stage3_stack.stacking.fold_rows import read_fold_rows
from stage3_stack.stacking.out_of_fold import CombinedStacks, member_column, train_fold_stacks, uncalibrated_column
from stage3_stack.stacking.stacker_choice import apply_used_stacker, pick_stacker
from tests.stage3_stack.toy_world import World, open_stage


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
