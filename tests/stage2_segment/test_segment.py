"""Stage 2: examples, the validation score, and the full-frame maps."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError
from cxr.files import read_json, write_json
from cxr.paths import ROOT
from cxr.training.augment import Augmentation
from cxr.training.cropping import View
from cxr.training.sampling import Sampling
from stage2_segment import config, inference, predict, train, validation
from stage2_segment.networks import build_segmenter

CPU = torch.device("cpu")


def with_member(data, **changes):
    """The data as another member sees them."""
    return type(data)(data.prepared, data.boxes, data.member.model_copy(update=changes), data.image_ids, data.seed)


class Constant(torch.nn.Module):
    """Says the same of every pixel and every image."""

    def __init__(self, logit: float, label: float | None = None):
        super().__init__()
        self.logit, self.label = logit, label

    def forward(self, image):
        label = None if self.label is None else torch.full((len(image),), self.label)
        return torch.full(image.shape, self.logit), label


def test_mask_follows_the_crop(data):
    found = data.sample("1.2.0", 0)
    assert found["mask"].dtype == np.uint8
    assert set(np.unique(found["mask"])) <= {0, 1}
    bright = found["image"] > 170  # the drawn square
    assert np.mean(bright == (found["mask"] > 0)) > 0.9


def test_maps_return_to_the_full_frame(data):
    patch = np.full((64, 64), 200, np.uint8)
    frame = data.paste_into_frame("1.2.0", patch)
    assert (frame[8:56, 4:60] == 200).all()
    assert frame.sum() == 200 * 48 * 56
    assert data.load_true_mask("1.2.0").any()
    assert not data.load_true_mask("1.2.2").any()


def test_a_frame_is_cut_in_training_and_seen_whole_at_inference(data):
    cut = with_member(data, view=View(size=32, frame=64, crop="full"))
    canvas = data.prepared.read_image("1.2.0")
    sample = cut.sample("1.2.0", 0)
    assert sample["image"].shape == sample["mask"].shape == (1, 32, 32)
    assert (cut.load_inference_image("1.2.0")["image"][0] == canvas).all()
    assert cut.load_true_mask("1.2.0").shape == (64, 64)
    found = list(inference.predict_maps([Constant(20.0)], cut, ["1.2.0"], CPU))
    assert found[0][0].shape == (64, 64)
    assert (found[0][0] == 255).all()


@pytest.mark.parametrize("view", [{"random_share": 1.0, "random_low": 0.25, "random_high": 0.4}, {"frame": 160}])
def test_the_label_is_of_what_crop_and_augmentation_leave(data, view):
    """The label head learns from the very picture: the lesion is its one bright part."""
    cut = with_member(data, view=View(size=64, crop="full", **view), augment=Augmentation(hflip=0.5, scale=1))
    samples = [cut.sample(image_id, epoch) for image_id in data.image_ids for epoch in range(6)]
    assert all(sample["label"] == sample["mask"].any() for sample in samples)
    sure = [(sample["label"], count > 0) for sample in samples if not 0 < (count := (sample["image"] > 170).sum()) < 40]
    assert all(label == held for label, held in sure)
    lost = [image_id for image_id in data.image_ids if data.prepared.read_mask(image_id).any()
            and 0 in (cut.sample(image_id, epoch)["label"] for epoch in range(6))]  # fmt: skip
    assert len(lost) > 3


def test_a_lesion_that_shrinking_would_lose_stays_a_lesion(data):
    mask = np.zeros((64, 64), np.uint8)
    mask[21, 33] = 1
    vars(data.prepared)["masks"] = np.packbits(np.broadcast_to(mask, (16, 64, 64)), axis=-1)
    sample = with_member(data, view=View(size=32, crop="full"), augment=Augmentation()).sample("1.2.0", 0)
    assert np.argwhere(sample["mask"][0]).tolist() == [[10, 16]]
    assert sample["label"] == 1


def test_positives_only_and_a_share_in_parts(data):
    positives = set(np.array(data.image_ids)[data.prepared.read_labels(data.image_ids) > 0])
    only = with_member(data, sampling=Sampling(positives_only=True))
    assert {image_id for batch in only.batches(0) for image_id in batch} == positives
    parts = with_member(data, sampling=Sampling(positive_share=[0.75, 0.25]))
    shares = [np.mean([each in positives for batch in parts.batches(epoch) for each in batch]) for epoch in (0, 1)]
    assert shares == [0.75, 0.25]


def test_label_probabilities_and_maps_are_the_mean_over_folds(data):
    ids = data.image_ids[:2]
    found = list(inference.predict_maps([Constant(-20.0, -20.0), Constant(20.0, 0.0)], data, ids, CPU))
    assert (found[0][0][8:56, 4:60] == 128).all()
    assert [prob for _, prob in found] == pytest.approx([0.25, 0.25])
    assert np.isnan([prob for _, prob in inference.predict_maps([Constant(0.0)], data, ids, CPU)]).all()


def test_maps_are_float32_also_where_training_is_not(data, member, monkeypatch):
    monkeypatch.setattr("cxr.torchkit.device.amp_dtype", lambda on: torch.bfloat16)
    ids = data.image_ids[:4]
    data = with_member(data, **dict(member("m", hflip_tta=False, label_head={"head": {"kind": "pooled"}})))
    torch.manual_seed(0)
    model = build_segmenter(data.member)
    model.net.segmentation_head[0].weight.data *= 300  # from black to white
    found = list(inference.predict_maps([model], data, ids, CPU))
    with torch.inference_mode():
        images = [data.load_inference_image(image_id)["image"] for image_id in ids]
        logits, label = model(torch.from_numpy(np.stack(images)))
    assert np.abs(np.stack([each for each, _ in found]) - 255 * torch.sigmoid(logits[:, 0]).numpy()).max() < 0.501
    assert np.allclose([prob for _, prob in found], torch.sigmoid(label), rtol=0, atol=1e-6)


def test_validation_passes_an_image_once_by_the_members_loaders(data, monkeypatch):
    training = data.member.training.model_copy(update={"workers": 3})
    data, asked, passed = with_member(data, hflip_tta=True, training=training), [], []
    monkeypatch.setattr("cxr.torchkit.loading.count_loaders", lambda count: asked.append(count) or 0)
    model = Constant(0.0)
    model.register_forward_pre_hook(lambda _model, images: passed.append(len(images[0])))
    validation.build_validation(data, data.image_ids[:3], CPU)(model)
    assert (passed, asked) == ([3], [3])
    list(inference.predict_maps([model], data, data.image_ids[:3], CPU))
    assert (passed, asked) == ([3, 3, 3], [3, 3])
    train._build_model(data.member.model_copy(update={"recalibrate": True}), data, None)
    assert asked == [3, 3, 3]


def scored(data, monkeypatch, found: list[np.ndarray], ids: list[str]) -> dict:
    maps = [(each, 0.5) for each in found]
    monkeypatch.setattr(validation, "predict_maps", lambda models, data, image_ids, device: iter(maps))
    return validation.build_validation(data, ids, CPU)(None)


def test_validation_score_is_the_kaggle_dice(data, monkeypatch):
    ids = ["1.2.0", "1.2.2"]
    perfect = [(data.load_true_mask(i) * 255).astype(np.uint8) for i in ids]
    assert scored(data, monkeypatch, perfect, ids) == {"score": 1, "positives_dice": 1, "positives_iou": 1}
    empty = [np.zeros((64, 64), np.uint8)] * 2  # right for the negative alone
    assert scored(data, monkeypatch, empty, ids) == {"score": 0.5, "positives_dice": 0, "positives_iou": 0}
    assert scored(data, monkeypatch, empty[:1], ids[1:]) == {"score": 1}  # no positive among the validation images
    assert validation.build_validation(data, [], CPU) is None


def test_a_member_of_positives_only_is_scored_by_them(data, monkeypatch):
    """A map that is .6 all over: everywhere drawn or nowhere; the negative prefers nowhere, the positive everywhere."""
    ids, found = ["1.2.0", "1.2.2"], [np.full((64, 64), 153, np.uint8)] * 2
    share = data.load_true_mask("1.2.0").mean()
    hit = 2 * share / (1 + share)
    assert scored(data, monkeypatch, found, ids)["score"] == 0.5
    only = with_member(data, sampling=Sampling(positives_only=True))
    metrics = scored(only, monkeypatch, found, ids)
    assert metrics["score"] == metrics["positives_dice"] == pytest.approx(hit)
    assert metrics["positives_iou"] == pytest.approx(share)


def test_a_least_area_empties_small_masks():
    truth, found = np.array([0, 400]), np.array([[0, 0, 0], [300, 300, 300]])
    kept = validation.score_areas(truth, found, found * 0 + 200, frame_pixels=10**6, positives_only=False)
    assert kept["score"] == pytest.approx((1 + 2 * 200 / 700) / 2)
    noise = validation.score_areas(
        np.array([0]), np.array([[50, 50, 50]]), np.zeros((1, 3)), frame_pixels=10**4, positives_only=False
    )
    assert noise == {"score": 0 if validation.MIN_AREAS.max() * 10**4 <= 50 else 1}


def made(unit, recipe, paths) -> None:
    train.run_step(unit, lambda identity, metrics: train.train(unit, recipe, paths, identity, metrics))


def test_units_write_what_the_contract_says(recipe, paths, member):
    settings = member("smoke", label_head={"head": {"kind": "pooled"}, "weight": 0.1})
    for fold in range(2):
        unit = config.build_training_step(recipe, paths, "smoke", fold, settings)
        made(unit, recipe, paths)
        index = tables.read_table(unit.folder / "index.parquet", tables.MAP_INDEX, "")
        maps = np.load(unit.folder / "maps.npy", allow_pickle=False)
        folds = Prepared(paths.prepared_folder, paths.folds_csv).folds
        assert set(index["image_id"]) == set(folds.index[folds["fold"] == fold])
        assert index["prob"].between(0, 1).all()
        assert maps.shape == (len(index), 32, 32)
        assert maps.dtype == np.uint8
    assert {"score", "positives_dice", "positives_iou"} <= set(pd.read_csv(unit.folder / "history.csv").columns)
    unit = config.build_test_step(recipe, paths, "smoke", settings)
    train.run_step(unit, lambda _identity, _metrics: predict.predict(unit, "smoke", recipe, paths))
    assert np.load(unit.folder / "maps.npy").shape == (3, 32, 32)
    assert all(each.is_up_to_date for each in config.units(recipe, paths))


def test_positives_only_without_any_is_the_datas_fault(recipe, paths, member, monkeypatch):
    settings = member("smoke", sampling={"positives_only": True})
    monkeypatch.setattr(Prepared, "read_labels", lambda self, ids: np.zeros(len(ids), np.float32))
    with pytest.raises(DataError, match="stage 2 smoke fold 0: it trains on positives only"):
        made(config.build_training_step(recipe, paths, "smoke", 0, settings), recipe, paths)


def test_frozen_norm_of_a_random_start_takes_the_training_images_statistics(data, member):
    model = train._build_model(member("m", freeze_norm=True), data, None)
    first = next(module for module in model.encoder.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert first.running_mean.any()
    kept = first.running_mean.clone()
    model.train()(torch.zeros(2, 1, 64, 64, dtype=torch.uint8))
    assert torch.equal(first.running_mean, kept)


@pytest.fixture
def command(recipe, paths, member, monkeypatch):
    """A function that runs stage2_segment.train, on a recipe of one member that starts from another."""
    member("first", freeze_encoder=True)
    member("second", start_from="first", freeze_encoder=True, view={"size": 64, "crop": "full"})
    chosen = recipe.model_copy(update={"stage2": ["second"]})
    monkeypatch.setattr(train, "load_recipe_and_paths", lambda: (chosen, paths))

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        train.main()

    return run


def test_a_member_starts_from_the_weights_of_its_start_member(command, paths, capsys):
    command("--member", "second", "--fold", "1")
    first, second = (paths.fold_folder(2, name, 1) for name in ("first", "second"))
    assert not (first / "maps.npy").exists()
    assert np.load(second / "maps.npy").shape[1:] == (64, 64)
    assert "start weights: first, fold1 (100%)" in capsys.readouterr().out
    ours, theirs = (load_file(folder / "weights.safetensors") for folder in (second, first))
    frozen = [name for name in ours if name.startswith("net.encoder") and ours[name].dtype.kind == "f"]
    assert frozen  # what neither trains is handed on as it was
    assert all((ours[name] == theirs[name]).all() for name in frozen)


def test_start_members_are_trained_again_only_where_they_have_to_be(command, paths, capsys, monkeypatch):
    command("--fold", "0")
    capsys.readouterr()
    command("--fold", "0")
    said = capsys.readouterr().out.splitlines()
    assert said == ["stage 2 first fold 0: up to date", "stage 2 second fold 0: up to date"]
    before = (paths.fold_folder(2, "first", 0) / "run.json").stat().st_mtime_ns
    monkeypatch.setenv("FORCE", "1")
    command("--member", "second", "--fold", "0")
    assert (paths.fold_folder(2, "first", 0) / "run.json").stat().st_mtime_ns == before
    monkeypatch.delenv("FORCE")
    command("--member", "first", "--fold", "0", "--training.lr", "0.002")
    capsys.readouterr()
    command("--member", "second", "--fold", "0")
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "stage 2 second fold 0: up to date"  # to the bit as before the trial
    assert read_json(paths.fold_folder(2, "first", 0) / "run.json")["config"]["member"]["training"]["lr"] == 0.001


def test_a_wrong_member_ends_the_check_with_exit_code_2(recipe, paths, tmp_path):
    wrong = recipe.model_copy(update={"stage2": ["nosuch"]}).model_dump(mode="json", exclude={"name"})
    write_json(tmp_path / "a recipe.yaml", wrong)
    environment = {"DATA": str(paths.data_folder), "RECIPE": str(tmp_path / "a recipe.yaml")}
    done = subprocess.run(
        [sys.executable, "-m", "stage2_segment.check"], cwd=ROOT, env=os.environ | environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "nosuch.yaml does not exist" in done.stderr
