"""The mask stacker: its maps are of every image, by nets that did not see it; killed, it ends as if it had not been."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError
from pipeline.stages import feeds_into
from stage3_stack import config as stage3
from stage3_stack import predict, train
from stage3_stack.config import MaskStackerConfig, build_mask_step
from stage3_stack.mask_stacker import train as mask_train
from stage3_stack.mask_stacker.data import MaskData
from stage3_stack.mask_stacker.network import MaskNet, predict_stacked_maps
from stage3_stack.postprocessing.mean_maps import read_maps, read_stacked_maps
from stage3_stack.results import table
from tests.stage3_stack.toy_world import QUICK, SIZE, World, command, make_world, small_config

STACKER = MaskStackerConfig(width=8, layers=2, steps=60, batch=4, lr=3e-3)
ASKED = (*QUICK, "--masks", "stacker", "--mask-stacker.steps", "8", "--mask-stacker.width", "4")


def make(world: World, stacker: MaskStackerConfig = STACKER) -> dict[str, np.ndarray]:
    """Run the mask stack; its maps by image_id."""
    unit = build_mask_step(world.recipe, world.paths, small_config(masks="stacker", mask_stacker=stacker))
    unit.folder.mkdir(parents=True, exist_ok=True)
    mask_train.train_mask_stack(world.paths, unit, "one")
    return maps(world)


def maps(world: World) -> dict[str, np.ndarray]:
    folder = world.paths.stage3_folder / "maps"
    index = tables.read_table(folder / "index.parquet", tables.MAP_INDEX, "")
    found = np.load(folder / "maps.npy")
    return {row.image_id: found[row.row] for row in index.itertuples()}


@pytest.fixture(scope="module")
def stacked_once(tmp_path_factory) -> tuple[World, dict[str, np.ndarray]]:
    """A small world, and the maps stacked in it; `tiny` shows it to a test."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("stacked") / "home"
        patch.setenv("CXR_HOME", str(home))
        world = make_world(home, train=48, test=4)
        return world, make(world)


@pytest.fixture
def tiny(stacked_once, monkeypatch) -> tuple[World, dict[str, np.ndarray]]:
    monkeypatch.setenv("CXR_HOME", str(stacked_once[0].recipe_file.parent))
    return stacked_once


def test_every_held_out_and_test_image_has_a_map_of_the_largest_size(tiny):
    world, found = tiny
    prepared = Prepared(world.paths.prepared_folder, world.paths.folds_csv)
    assert set(found) == {*prepared.list_ids("train"), *prepared.list_ids("test")}
    assert {image.shape for image in found.values()} == {(SIZE, SIZE)}
    name = prepared.list_ids("test")[0]
    of_members = read_maps(world.paths, ["u", "v"], None, [name])
    assert read_stacked_maps(world.paths, [name]).mean_head_prob(name) == of_members.mean_head_prob(name)
    assert not list((world.paths.stage3_folder / "maps").rglob("checkpoint.pt"))


def test_the_net_learns_what_the_mean_does_not_know(tiny):
    world, found = tiny
    prepared = Prepared(world.paths.prepared_folder, world.paths.folds_csv)
    ids = prepared.folds.index[prepared.folds["fold"] == 0].tolist()
    mean = read_maps(world.paths, ["u", "v"], 0, ids)
    errors = [(_error(prepared, name, found[name]), _error(prepared, name, mean.read_mean(name))) for name in ids]
    stacked, plain = np.mean(errors, axis=0)
    assert stacked < 0.8 * plain


def _error(prepared: Prepared, name: str, found: np.ndarray) -> float:
    return float(((found / 255 - prepared.read_mask(name)) ** 2).mean())


def test_its_maps_are_float32(monkeypatch):
    monkeypatch.setattr("cxr.torchkit.device.amp_dtype", lambda on: torch.bfloat16)
    random, net = np.random.default_rng(0), MaskNet(2, STACKER)
    maps, image = (random.integers(0, 255, (3, channels, 16, 16), np.uint8) for channels in (2, 1))
    examples = {str(row): {"maps": maps[row], "image": image[row]} for row in range(3)}
    data = SimpleNamespace(stacker=STACKER, training=SimpleNamespace(workers=0), load_inputs=examples.get)
    torch.nn.init.normal_(net.last.weight)
    found = np.stack(list(predict_stacked_maps([net], data, list(examples), torch.device("cpu"))))
    with torch.inference_mode():
        plain = net(torch.from_numpy(maps), torch.from_numpy(image))
    assert np.abs(found - 255 * torch.sigmoid(plain[:, 0]).numpy()).max() < 0.501


@pytest.mark.parametrize(("folds", "by"), [(None, "fold"), ([1], "subfold")])
def test_a_truth_does_not_change_the_map_of_its_own_group(home, folds, by):
    world = make_world(home, train=48, test=2, train_folds=folds)
    few = STACKER.model_copy(update={"steps": 4})
    before = make(world, few)
    table_ = Prepared(world.paths.prepared_folder, world.paths.folds_csv).folds
    group = table_[by][table_["fold"].isin(world.recipe.folds_to_train)]
    _turn_round(world, group.index[group == 1])
    after = make(world, few)
    same = {name: np.array_equal(before[name], after[name]) for name in before}
    assert all(same[name] for name in group.index[group == 1])
    assert not any(same[name] for name in group.index[group != 1])
    assert not any(same[name] for name in same if name.startswith("ID"))


def _turn_round(world: World, image_ids) -> None:
    """Invert these images' hand-drawn masks."""
    rows = (
        pd.read_parquet(world.paths.prepared_folder / "index.parquet").set_index("image_id").loc[image_ids, "mask_row"]
    )
    masks = np.load(world.paths.prepared_folder / "masks.npy")
    masks[rows[rows >= 0]] ^= 255
    np.save(world.paths.prepared_folder / "masks.npy", masks)


def test_a_killed_stack_goes_on_and_ends_as_an_unbroken_one(tiny, monkeypatch):
    world, unbroken = tiny
    (world.paths.stage3_folder / "maps" / "maps.npy").unlink()
    seen, sample = [], MaskData.sample

    def dies(data, image_id, epoch):
        seen.append(image_id)
        if len(seen) == 330:  # in the second net: a net sees 60 batches of four
            raise KeyboardInterrupt
        return sample(data, image_id, epoch)

    monkeypatch.setattr(MaskData, "sample", dies)
    with pytest.raises(KeyboardInterrupt):
        make(world)
    assert not (world.paths.stage3_folder / "maps" / "maps.npy").exists()
    found = make(world)
    assert len(seen) <= 480 + 24 + 1  # of what was done before, no more than the epoch under way was done again
    assert all(np.array_equal(found[name], unbroken[name]) for name in unbroken)


def test_an_untrained_net_gives_the_mean_map():
    import torch

    from stage3_stack.mask_stacker.network import MaskNet

    maps_ = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(1, 3, 1, 1)
    found = torch.sigmoid(MaskNet(3, STACKER)(maps_, maps_[:, :1])) * 255
    assert (found - maps_[:, :1]).abs().max() < 0.51


def test_steps_are_counted_over_epochs(tiny):
    world, _ = tiny
    prepared = Prepared(world.paths.prepared_folder, world.paths.folds_csv)
    for steps in (1, 11, 12, 13, 30):
        config = STACKER.model_copy(update={"steps": steps})
        data = MaskData(prepared, {}, config, prepared.list_ids("train"), 1)
        batches = [data.batches(epoch) for epoch in range(data.training.epochs)]
        assert sum(map(len, batches)) == steps
        assert all(len(ids) == 4 and prepared.read_labels(ids).sum() == 2 for epoch in batches for ids in epoch)


def test_with_the_stacker_the_whole_stage_runs_and_shows_the_mean_beside_it(home, monkeypatch, capsys):
    world = make_world(home, train=60, test=6)
    with pytest.raises(UsageError, match=r"index.parquet is missing; it is made by: the mask stack"):
        command(world, train.main, monkeypatch, *ASKED)
    command(world, mask_train.main, monkeypatch, *ASKED)
    command(world, train.main, monkeypatch, *ASKED)
    command(world, table.main, monkeypatch)
    text = capsys.readouterr().out
    assert "the members' mean map in place of the mask stacker" in text
    record = json.loads((world.paths.stage3_folder / "run.json").read_text())
    assert record["metrics"]["masks"] == "stacker"
    assert record["metrics"]["plain_mean"]["held_out"].keys() == {"kaggle_dice", "positives_dice"}
    assert record["metrics"]["plain_mean"]["test"]["positives_dice"] > 0.3
    command(world, mask_train.main, monkeypatch, *ASKED)
    assert "stage 3 mask stack: up to date" in capsys.readouterr().out


def test_the_mask_stack_is_a_unit_of_its_own_that_feeds_the_stack(made: World, monkeypatch):
    config = small_config(masks="stacker")
    monkeypatch.setattr("stage3_stack.config.steps.read_stack_settings", lambda _recipe: config)
    first, second = stage3.units(made.recipe, made.paths)
    assert (first.name, second.name) == ("stage 3 mask stack", "stage 3")
    assert feeds_into(first, second)
    assert not feeds_into(second, first)
    again = build_mask_step(made.recipe, made.paths, config.model_copy(update={"stacker": "mean"}))
    assert again.identity == first.identity  # what it does not depend on does not train it again


def test_without_segmenters_there_is_nothing_to_stack(made: World):
    bare = made.recipe.model_copy(update={"stage3": "dw_hwang", "stage2": []})
    with pytest.raises(UsageError, match=r"dw_hwang.yaml: key 'masks': stacker needs segmenters"):
        stage3.units(bare, made.paths)
    with pytest.raises(UsageError, match="both empty"):
        stage3.units(bare.model_copy(update={"stage1": []}), made.paths)


def test_predict_takes_the_stacked_maps_where_the_recipe_does(home, monkeypatch):
    world = make_world(home, train=48, test=4)
    stacked = small_config(masks="stacker", mask_stacker=STACKER.model_copy(update={"steps": 4}))
    for module in (train, mask_train, predict):
        monkeypatch.setattr(module, "read_stack_settings", lambda _recipe: stacked)
    for main in (mask_train.main, train.main):
        command(world, main, monkeypatch)
    before = world.paths.submission_csv.read_text()
    command(world, predict.main, monkeypatch)
    assert world.paths.submission_csv.read_text() == before
    path = world.paths.stage3_folder / "maps" / "maps.npy"
    np.save(path, np.load(path) * 0)
    command(world, predict.main, monkeypatch)
    assert world.paths.submission_csv.read_text().count(" -1\n") == 5
