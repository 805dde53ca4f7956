"""The published systems' post-processing as shipped, on the made-up dataset; recipes of segmenters alone."""

import json

import numpy as np
import pandas as pd
import pytest

from cxr import tables
from cxr.config import load_settings
from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError
from cxr.imaging import rle
from cxr.recipe import SmallTrial
from evaluation import metrics
from stage3_stack import predict, train
from stage3_stack.config import CONFIGS, Config, GridConfig, ZoneConfig, read_stack_settings
from stage3_stack.results import table
from tests.stage3_stack.toy_world import World, command, make_world, open_stage, small_config


def shipped(name: str, **changes) -> Config:
    config = load_settings(CONFIGS / f"{name}.yaml", Config).model_copy(update=changes)
    return config.model_copy(update={"dense": config.dense.model_copy(update={"steps": 10})})


def submitted(world: World) -> pd.Series:
    read_back = pd.read_csv(world.paths.submission_csv, dtype=str, skipinitialspace=True)
    return read_back.set_index("ImageId")["EncodedPixels"].drop("ID_gone")


@pytest.mark.parametrize(("name", "test"), [
    ("reyvaz", {
        "top_score_threshold": 0.75, "min_area": 200, "bottom_score_threshold": 0.4, "probability_threshold": 0.6,
        "reference_size": 544,
    }),
    ("nguyen", {
        "bottom_score_threshold": 0.5, "min_component_area": 3501, "probability_threshold": 0, "reference_size": 1024,
    }),
    ("amirassov", {
        "bottom_score_threshold": 0.5, "min_area": 800, "label_head_threshold": 0.6, "probability_threshold": 0,
        "reference_size": 768,
    }),
    ("prasadsawant", {
        "top_score_threshold": 0.5, "bottom_score_threshold": 0.5, "min_area": 0, "min_component_area": 0,
        "probability_threshold": 0,
    }),
])  # fmt: skip
def test_what_was_published_is_what_decides(finished: World, name, test):
    members = ["a", "b"] if name == "reyvaz" else []
    figures = train.run_stage3(open_stage(finished, settings=shipped(name), members=members))
    record = json.loads((finished.paths.stage3_folder / "decision.json").read_text())
    for decision in (record["test"], record["held_out"]["0"], record["held_out"]["1"]):
        assert decision.items() >= test.items()
    assert figures["decision"] == record["test"]


def test_who_chose_on_validation_images_chooses_among_all_that_differ():
    exact = dict.fromkeys(("top_score_thresholds", "min_areas", "bottom_score_thresholds"), "exact")
    exact |= {"reference_size": 1024}
    for name, gates in (("dw_hwang", {"quantiles": 32}), ("small", {"quantiles": 32}), ("sneddy", [0])):
        assert shipped(name).grid.model_dump().items() >= (exact | {"probability_thresholds": gates}).items()
    assert shipped("dw_hwang").masks == "stacker"


def test_segmenters_alone_give_a_probability_by_their_label_heads(finished: World):
    """With one member a logistic stack only rescales it, so its AUC is that of the heads themselves."""
    stage = open_stage(finished, settings=shipped("amirassov"), members=[])
    figures = train.run_stage3(stage)["held_out"]
    folds = Prepared(finished.paths.prepared_folder, finished.paths.folds_csv).folds
    index = pd.concat(
        pd.read_parquet(finished.paths.fold_folder(2, "v", fold) / "index.parquet").set_index("image_id")
        for fold in (0, 1)
    )
    probs = index.loc[folds.index, "prob"]
    labels = np.array([finished.truth[name].any() for name in folds.index], float)
    group = (folds["fold"] * 10 + folds["subfold"]).to_numpy()
    assert figures["stack"]["auc"] == pytest.approx(metrics.roc_auc_within_groups(labels, probs.to_numpy(), group))
    assert figures["members"]["maps"]["auc"] == pytest.approx(figures["stack"]["auc"])
    stacked = tables.read_table(finished.paths.stage3_folder / "stacked.parquet", tables.STACKED, "")
    assert set(stacked["split"]) == {"train", "test"}  # of unlabelled images there are no maps


def test_a_mask_is_empty_where_the_label_heads_say_so(finished: World):
    train.run_stage3(open_stage(finished, settings=shipped("amirassov"), members=[]))
    heads = pd.read_parquet(finished.paths.run_folder / "stage2/v/test/index.parquet").set_index("image_id")["prob"]
    empty = submitted(finished) == rle.EMPTY
    assert empty[heads < 0.6].all()
    assert not empty[heads >= 0.6].all()
    stacked = tables.read_table(finished.paths.stage3_folder / "stacked.parquet", tables.STACKED, "").set_index(
        "image_id"
    )
    assert (stacked.loc[heads.index, "positive"] == (heads >= 0.6)).all()


def test_a_gate_on_heads_that_no_segmenter_has_is_refused_by_its_key(finished: World):
    stage = open_stage(finished, settings=shipped("amirassov"), members=[], segmenters=["u"])
    with pytest.raises(UsageError, match=r"grid\.label_head_thresholds is \[0\.6\], but no segmenter"):
        train.run_stage3(stage)
    choice = GridConfig(
        top_score_thresholds=[0.5],
        min_areas=[0],
        bottom_score_thresholds=[0.5],
        probability_thresholds=[0],
        label_head_thresholds=[0.6, 0],
    )
    train.run_stage3(open_stage(finished, settings=small_config(grid=choice), members=[], segmenters=["u"]))
    record = json.loads((finished.paths.stage3_folder / "decision.json").read_text())
    assert record["test"]["label_head_threshold"] == 0


def test_maps_without_label_heads_give_a_probability_too(finished: World, monkeypatch):
    monkeypatch.setattr(predict, "read_stack_settings", lambda _recipe: shipped("nguyen", stacker="lightgbm"))
    alone = finished.recipe.model_copy(update={"stage1": [], "stage2": ["u"]})
    monkeypatch.setattr("cxr.recipe.load_recipe_and_paths", lambda: (alone, finished.paths))
    stage = open_stage(finished, settings=shipped("nguyen", stacker="lightgbm"), members=[], segmenters=["u"])
    figures = train.run_stage3(stage)
    assert figures["held_out"]["stackers"]["lightgbm"]["auc"] > 0.7
    assert "the segmenters' maps" in table.render_table(figures | {"boxes": {"held_out": {}, "test": {}}})
    before = finished.paths.submission_csv.read_text()
    stacked = pd.read_parquet(finished.paths.stage3_folder / "stacked.parquet")
    predict.main()
    assert finished.paths.submission_csv.read_text() == before
    pd.testing.assert_frame_equal(pd.read_parquet(finished.paths.stage3_folder / "stacked.parquet"), stacked)


def test_small_parts_are_not_submitted(finished: World):
    before = shipped("prasadsawant")
    after = shipped("nguyen", grid=shipped("nguyen").grid.model_copy(update={"min_component_areas": [30000.0]}))
    pixels = []
    for config in (before, after):
        train.run_stage3(open_stage(finished, settings=config, members=[]))
        masks = submitted(finished)
        pixels.append(masks.map(lambda code: 0 if code == rle.EMPTY else sum(map(int, code.split()[1::2]))))
    assert (pixels[1] <= pixels[0]).all()
    assert 0 < pixels[1].sum() < pixels[0].sum()


def test_the_zone_is_in_the_decision_and_in_the_table(finished: World):
    config = small_config(zone=ZoneConfig(accuracy=0.95))
    figures = train.run_stage3(open_stage(finished, settings=config))
    record = json.loads((finished.paths.stage3_folder / "decision.json").read_text())["inconclusive_zone"]
    held = tables.read_table(finished.paths.stage3_folder / "stacked.parquet", tables.STACKED, "").query(
        "split == 'train'"
    )
    held = held.set_index("image_id")
    fold = Prepared(finished.paths.prepared_folder, finished.paths.folds_csv).folds.loc[held.index, "fold"]
    aside = [record["held_out"][str(k)]["low"] <= p <= record["held_out"][str(k)]["high"]
             for k, p in zip(fold, held["prob"], strict=True)]  # fmt: skip
    assert figures["held_out"]["zone"]["set_aside"] == pytest.approx(np.mean(aside))
    assert figures["zone"] == record["test"]
    text = table.render_table(figures | {"boxes": {"held_out": {}, "test": {}}})
    rows = {line.split("|")[1].strip(): line for line in text.splitlines()}
    assert metrics.format_metric(np.mean(aside)) in rows["inconclusive zone, share set aside"]
    assert metrics.format_metric(figures["held_out"]["zone"]["accuracy"]) in rows["accuracy on the rest"]


def test_classifiers_alone_are_positive_from_the_published_probability(finished: World):
    config = shipped("erinqhu", grid=shipped("erinqhu").grid.model_copy(update={"probability_thresholds": [0.7]}))
    train.run_stage3(open_stage(finished, settings=config, segmenters=[]))
    stacked = tables.read_table(finished.paths.stage3_folder / "stacked.parquet", tables.STACKED, "")
    assert (stacked["positive"] == (stacked["prob"] >= 0.7)).all()
    assert stacked["positive"].any()


def test_a_small_recipe_trains_its_heads_for_few_steps(made: World):
    whole = made.recipe.model_copy(update={"stage3": "dw_hwang"})
    few = read_stack_settings(whole.model_copy(update={"small": SmallTrial(steps=7)}))
    assert (few.dense.steps, few.mask_stacker.steps, few.min_rows_per_class) == (7, 7, 2)
    many = read_stack_settings(whole.model_copy(update={"small": SmallTrial(steps=10**6)}))
    assert (many.dense, many.mask_stacker) == (
        read_stack_settings(whole).dense,
        read_stack_settings(whole).mask_stacker,
    )
    assert read_stack_settings(whole).min_rows_per_class == 10


def test_trees_get_boxes_and_say_so_in_the_table(home, monkeypatch, capsys):
    world = make_world(home, train=48, test=4)
    world.paths.boxes_csv.parent.mkdir(parents=True)
    rows = "".join(f"{name}.png,5,60,5,60,0.9,model\n" for name in world.truth)
    world.paths.boxes_csv.write_text("Filename,xmin,xmax,ymin,ymax,score,source\n" + rows)
    command(world, train.main, monkeypatch, "--dense.steps", "10", "--stacker", "lightgbm")
    command(world, table.main, monkeypatch)
    assert "LightGBM: features, age, sex, view, box, maps ← in use" in capsys.readouterr().out
    inputs = json.loads((world.paths.stage3_folder / "run.json").read_text())["inputs"]
    assert [name for name in inputs if name.endswith("stage0/boxes.csv")]
    before = world.paths.submission_csv.read_text()
    command(world, predict.main, monkeypatch)
    assert world.paths.submission_csv.read_text() == before
