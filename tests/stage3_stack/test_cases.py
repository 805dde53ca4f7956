"""cases.parquet is what the submission and the decision say of each image; scores, panel and leaks are of the same."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from sklearn.metrics import brier_score_loss, log_loss

from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError
from cxr.imaging import rle
from evaluation import leakage, metrics, panel
from stage3_stack import predict, train
from stage3_stack.config import build_stack_step
from stage3_stack.postprocessing.map_sets import MappedImages
from stage3_stack.results import cases, table
from stage3_stack.stacking.fold_rows import logit
from tests.stage3_stack.toy_world import QUICK, World, command, make_world, open_stage, small_config

PLUS = np.ones((3, 3))


def read(world: World, name: str = "cases") -> pd.DataFrame:
    return pd.read_parquet(world.paths.stage3_folder / f"{name}.parquet").set_index("image_id")


def record(world: World, name: str) -> dict:
    return json.loads((world.paths.stage3_folder / f"{name}.json").read_text())


def test_a_test_case_is_the_submitted_mask_beside_the_truth(made: World):
    rows = read(made).query("split == 'test'")
    masks = pd.read_csv(made.paths.submission_csv, dtype=str, skipinitialspace=True).set_index("ImageId")[
        "EncodedPixels"
    ]
    assert set(rows.index) == set(masks.index) - {"ID_gone"}
    assert (rows["fold"] == -1).all()
    for image_id, row in rows.iterrows():
        truth = made.truth[image_id]
        found = rle.decode_mask(masks[image_id], *truth.shape)
        lesions, count = ndimage.label(truth, PLUS)
        parts, drawn = ndimage.label(found, PLUS)
        assert (row["truth"], row["found"], row["overlap"]) == (truth.sum(), found.sum(), (truth & found).sum())
        assert (row["lesions"], row["hit"]) == (count, len(np.unique(lesions[found & truth])))
        assert row["extra"] == drawn - len(np.unique(parts[truth & found]))
        assert row["share"] == truth.mean()
        assert (row["nsd"] == 1) == (truth == found).all()


def test_the_held_out_cases_have_the_dice_that_the_decision_was_judged_by(made: World):
    rows = read(made).query("split == 'train'")
    judged = record(made, "decision")["kaggle_dice_on_held_out"]
    dices = metrics.dice_of_areas(rows["truth"], rows["found"], rows["overlap"])
    assert metrics.kaggle_dice(dices) == pytest.approx(judged["nested"], abs=1e-12)
    assert (rows["lesions"] == rows["label"]).all()  # one circle each
    assert (rows.loc[~rows["positive"], "found"] == 0).all()


def test_a_held_out_case_knows_who_it_is_and_who_scored_it(made: World):
    rows, prepared = read(made).query("split == 'train'"), Prepared(made.paths.prepared_folder, made.paths.folds_csv)
    assert rows.index.tolist() == prepared.folds.index.tolist()
    for name in ("patient", "age", "sex", "view"):
        assert rows[name].fillna("none").eq(prepared.manifest.loc[rows.index, name].fillna("none")).all()
    assert rows["fold"].equals(prepared.folds["fold"])
    heads = prepared.folds.groupby(["fold", "subfold"]).groups.values()
    assert [rows.loc[own, "head"].nunique() for own in heads] == [1] * 8
    assert rows["head"].nunique() == 8


def test_the_scores_are_of_the_same_images_before_and_after_calibration(made: World):
    rows, scores = read(made), read(made, "scores")
    assert scores.index.equals(rows.index)
    assert scores.columns.tolist() == [
        "member a", "member b", "dense", "mean", "logistic", "lightgbm", "uncalibrated",
    ]  # fmt: skip
    assert scores["dense"].equals(rows["prob"].rename("dense"))
    own = Prepared(made.paths.prepared_folder, made.paths.folds_csv).folds.loc["im007"]
    slope, intercept = record(made, "decision")["calibration"]["heads"][f"{own['fold']}/{own['subfold']}"]
    before, after = logit(scores.loc["im007", ["uncalibrated", "dense"]].to_numpy(float))
    assert after == pytest.approx(slope * before + intercept)


def test_the_figures_before_and_after_calibration_are_those_of_the_scores(made: World):
    rows, scores = read(made).query("split == 'train'"), read(made, "scores")
    found = record(made, "run")["metrics"]["calibration"]
    assert found["kind"] == "platt"
    for when, probs in (("before", scores["uncalibrated"]), ("after", rows["prob"])):
        assert found[when]["log_loss"] == pytest.approx(log_loss(rows["label"], probs[rows.index]))
        assert found[when]["brier"] == pytest.approx(brier_score_loss(rows["label"], probs[rows.index]))
        bins = (10 * probs[rows.index]).astype(int)
        gaps = (rows["label"] - probs[rows.index]).groupby(bins).sum().abs().sum() / len(rows)
        assert found[when]["calibration_error_counted"] == pytest.approx(gaps)
    assert found["after"]["calibration_error"] == record(made, "panel")["held_out"]["all"]["calibration_error"]["value"]


def test_the_panel_is_of_the_cases(made: World):
    whole, rows = record(made, "panel"), tables.read_table(made.paths.stage3_folder / "cases.parquet", tables.CASES, "")
    assert whole == json.loads(json.dumps(panel.compute_panel(rows)))
    figures = record(made, "run")["metrics"]
    assert figures["panel"]["held_out"]["all"]["auc"] == whole["held_out"]["all"]["auc"]
    for part in ("held_out", "test"):
        assert figures[part]["stack"]["auc"] == pytest.approx(whole[part]["all"]["auc"]["value"])
        assert figures[part]["kaggle_dice"] == pytest.approx(whole[part]["all"]["kaggle_dice"]["value"])


def test_without_segmenters_nothing_is_said_of_masks(finished: World):
    figures = train.run_stage3(open_stage(finished, segmenters=[]))
    assert "Decisions" not in table.build_footnotes(figures)
    rows = read(finished)
    assert rows["nsd"].isna().all()
    assert (rows[["found", "overlap", "lesions", "hit", "extra"]] == 0).all(axis=None)
    assert all(rows.at[name, "truth"] == finished.truth[name].sum() for name in rows.index)
    assert "kaggle_dice" not in record(finished, "panel")["held_out"]["all"]


def test_without_the_tests_truth_the_cases_are_the_held_out_ones(finished: World):
    (finished.paths.data_folder / "test-truth.csv").write_text("ImageId,EncodedPixels\nof_others,-1\n")
    figures = train.run_stage3(open_stage(finished))
    assert figures["test"] is figures["panel"]["test"] is None
    assert set(read(finished)["split"]) == {"train"}


def test_a_table_of_chest_tubes_gives_figures_with_and_without_one(finished: World):
    ids, tubes = read(finished).index.tolist(), finished.paths.data_folder / "chest_tubes.csv"
    lines = [f"{image_id},{k % 2}.0" for k, image_id in enumerate(ids)]
    tubes.write_text("\n".join(["ImageId,chest_tube", *lines[:-2], f"{ids[-1]},"]))
    assert tubes in build_stack_step(finished.recipe, finished.paths, small_config()).inputs
    train.run_stage3(open_stage(finished))
    kept = read(finished)["chest_tube"]
    assert kept[ids[:-2]].tolist() == [k % 2 for k in range(len(ids) - 2)]
    assert kept[ids[-2:]].isna().all()
    groups = [record(finished, "panel")[part]["by"]["chest tube"] for part in ("held_out", "test")]
    assert sum(part[name]["images"] for part in groups for name in ("yes", "no")) == len(ids) - 2


def test_an_image_without_lesion_and_mask_is_not_decoded(made: World, monkeypatch):
    prepared = Prepared(made.paths.prepared_folder, made.paths.folds_csv)
    ids = [name for name in prepared.folds.index if not made.truth[name].any()]
    monkeypatch.setattr(rle, "decode_mask", None)
    nothing = MappedImages(ids, [None] * len(ids))
    found = cases.evaluate_masks(
        nothing, np.zeros(len(ids), bool), [None] * len(ids), prepared, dict.fromkeys(ids, rle.EMPTY)
    )
    assert found.drop(columns="nsd").to_numpy().sum() == 0
    assert (found["nsd"] == 1).all()


def test_a_patient_and_a_copy_on_both_sides_are_counted(finished: World):
    folder = finished.paths.prepared_folder
    prepared = Prepared(folder, finished.paths.folds_csv)
    clean = leakage.audit_leakage(prepared, [0, 1])
    assert not clean["leak"]
    assert leakage.describe_leakage(clean) == (
        "Patients in training too: 0.0 % of images, 0.0 % of positive ones; "
        "near-duplicates: 0.0 % of images, 0.0 % of positive ones."
    )
    fold = prepared.folds["fold"]
    well = [next(name for name in fold.index[fold == k] if not finished.truth[name].any()) for k in (0, 1)]
    manifest = prepared.manifest.reset_index(drop=True)
    manifest.loc[manifest["image_id"].isin(well), "patient"] = "the same"
    tables.write_table(manifest, folder / "manifest.parquet", tables.MANIFEST)
    pixels, rows = np.load(folder / "pixels.npy"), prepared.index["row"]
    ill = [next(name for name in fold.index[fold == k] if finished.truth[name].any()) for k in (0, 1)]
    pixels[rows[ill[1]]] = pixels[rows[ill[0]]]
    np.save(folder / "pixels.npy", pixels)
    found = leakage.audit_leakage(Prepared(folder, finished.paths.folds_csv), [0, 1])
    assert leakage.describe_leakage(found) == (
        "Patients in training too: 1.7 % of images, 0.0 % of positive ones; "
        "near-duplicates: 1.7 % of images, 4.2 % of positive ones."
    )


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_predict_calibrates_as_the_decision_says(finished: World, monkeypatch, kind):
    asked = small_config(calibration=kind)
    monkeypatch.setattr(predict, "read_stack_settings", lambda _recipe: asked)
    train.run_stage3(open_stage(finished, settings=asked))
    before = read(finished, "stacked")
    command(finished, predict.main, monkeypatch)
    pd.testing.assert_frame_equal(read(finished, "stacked"), before)
    path, found = finished.paths.stage3_folder / "decision.json", record(finished, "decision")
    assert found["calibration"]["kind"] == kind
    found["calibration"]["heads"] = {key: [[0], [0.25]] for key in found["calibration"]["heads"]}
    path.write_text(json.dumps(found | {"calibration": found["calibration"] | {"kind": "isotonic"}}))
    command(finished, predict.main, monkeypatch)
    after = read(finished, "stacked")
    assert np.allclose(after.loc[after["split"] != "train", "prob"], 0.25)
    assert after.query("split == 'train'").equals(before.query("split == 'train'"))
    del found["calibration"]["heads"]["1/2"]
    path.write_text(json.dumps(found | {"calibration": found["calibration"] | {"kind": "isotonic"}}))
    with pytest.raises(UsageError, match=r"decision.json: 'calibration' lacks head '1/2'"):
        command(finished, predict.main, monkeypatch)


def test_the_table_shows_intervals_and_how_they_are_made(made: World, monkeypatch, capsys):
    monkeypatch.setattr(table, "write_text", lambda *_: None)
    monkeypatch.setattr(table, "write_json", lambda *_: None)
    command(made, table.main, monkeypatch)
    text = capsys.readouterr().out
    for name, title in (("auc", "← in use"), ("kaggle_dice", "Kaggle's mean"), ("floor", "floor: every mask")):
        figure = record(made, "panel")["held_out"]["all"][name]
        value, low, high = (metrics.format_metric(figure[key]) for key in ("value", "low", "high"))
        assert f"{value} ({low}–{high})" in next(line for line in text.splitlines() if title in line)
    assert "95 % intervals of 2000 resamples, by patient." in text
    assert "Patients in training too: 0.0 % of images" in text


@pytest.mark.parametrize("of_before", ["no panel", "old names"])
def test_a_run_of_an_earlier_version_is_to_be_made_anew(finished: World, monkeypatch, of_before):
    path = finished.paths.stage3_folder / "run.json"
    old = record(finished, "run")
    if of_before == "no panel":
        del old["metrics"]["panel"]
    else:
        old["metrics"]["decision"] = {"top": 0.5, "gate": 0.4}
    path.write_text(json.dumps(old))
    with pytest.raises(UsageError, match="of an earlier version; make it anew: stage 3"):
        command(finished, table.main, monkeypatch)


def test_patients_that_are_not_known_are_no_clean_folds(home, monkeypatch, capsys):
    world = make_world(home, train=48, test=4, patients=False)
    command(world, train.main, monkeypatch, *QUICK)
    command(world, table.main, monkeypatch)
    text = capsys.readouterr().out
    assert "Patients unknown; near-duplicates: 0.0 % of images" in text
    assert "resamples, by image, too narrow." in text


def test_beneath_the_table_stands_what_the_decision_rests_on(finished: World, monkeypatch, capsys):
    settings = ("--grid.probability-thresholds", "0", "--operating-point.specificity", "0.9")
    command(finished, train.main, monkeypatch, *QUICK, *settings)
    command(finished, table.main, monkeypatch)
    text, point = " ".join(capsys.readouterr().out.split()), record(finished, "decision")["operating_point"]
    has = ", ".join(
        f"{name} {metrics.format_metric(point['held_out'][name])}" for name in ("sensitivity", "specificity")
    )
    assert f"The gate is for specificity .900; chosen nested it has {has}." in text
    search = record(finished, "decision")["search"]
    low, high = (metrics.format_metric(end) for end in search["fold_spread"]["probability_threshold"])
    assert f"Decisions from fold to fold: probability threshold {low} to {high}" in text
    assert f"over above .5, nested | {metrics.format_metric(search['gain_over_plain'])} |" in text
