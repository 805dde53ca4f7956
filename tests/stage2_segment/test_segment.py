"""Stage 2: networks, losses, examples, and the full-frame maps."""

import numpy as np
import pytest
import torch

from cxr import tables
from cxr.errors import UsageError
from cxr.geometry import Box
from cxr.paths import Paths
from cxr.prepared import Prepared
from cxr.recipe import Recipe
from cxr.training import HeadConfig
from stage2_segment import config, infer, models, predict, train
from stage2_segment.data import SegmenterData
from stage2_segment.losses import SegmenterLoss

RECIPE = Recipe(
    name="r", about="a test", prepared_size=64, folds=2, subfolds=2, stage0="smoke", stage1=[], stage2=["smoke"],
    stage3="smoke",
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture
def paths(prepared_paths) -> Paths:
    return prepared_paths


@pytest.fixture
def data(paths) -> SegmenterData:
    prepared = Prepared(paths.prepared, 2)
    ids = prepared.folds["image_id"].tolist()
    return SegmenterData(prepared, dict.fromkeys(ids, Box(4, 8, 60, 56)), config.read("smoke"), ids, 1)


def member_of(name: str) -> config.SegmenterConfig:
    return config.read(name).model_copy(update={"weights": None})


NETWORKS = ["unet_mnv2_crop", "unetpp_mnv2_full", "start_unet", "unet_effb4_crop", "unetpp_xception_crop"]


@pytest.mark.parametrize("name", NETWORKS)
def test_network_at_64_pixels(name):
    model = models.build(member_of(name))
    batch = {
        "image": torch.randint(0, 255, (2, 1, 64, 64), dtype=torch.uint8),
        "mask": torch.randint(0, 2, (2, 1, 64, 64), dtype=torch.uint8), "label": torch.tensor([0.0, 1]),
    }  # fmt: skip
    logits, label = model(batch["image"])
    assert logits.shape == (2, 1, 64, 64)
    assert torch.isfinite(logits).all()
    assert (label is None) == (name != "start_unet")
    SegmenterLoss(member_of(name))(model, batch).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_one_batch_can_be_overfitted():
    torch.manual_seed(0)
    member = member_of("smoke")
    model, loss = models.build(member), SegmenterLoss(member)
    mask = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    mask[0, :, 10:40, 10:30] = 1
    noise = torch.randint(0, 80, (2, 1, 64, 64), dtype=torch.uint8)
    batch = {"image": noise + 100 * mask, "mask": mask, "label": torch.tensor([1.0, 0])}
    step = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        value = loss(model, batch)
        step.zero_grad()
        value.backward()
        step.step()
    assert value.item() < 0.2


def test_losses_against_their_formulas():
    member = member_of("smoke").model_copy(update={"loss": config.LossConfig(bce=0, dice=2, focal=0)})
    logits, mask = torch.tensor([[[[4.0, -4], [0, 1]]]]), torch.tensor([[[[1, 0], [0, 1]]]])
    prob = torch.sigmoid(logits)
    expected = 2 * (1 - (2 * (prob * mask).sum() + 2) / (prob.sum() + mask.sum() + 2))
    found = SegmenterLoss(member)(lambda _: (logits, None), {"image": None, "mask": mask})
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    focal = member.model_copy(update={"loss": config.LossConfig(bce=0, dice=0, focal=1, focal_gamma=2.0)})
    p = torch.where(mask > 0, prob, 1 - prob)
    found = SegmenterLoss(focal)(lambda _: (logits, None), {"image": None, "mask": mask})
    assert found.item() == pytest.approx((-((1 - p) ** 2) * p.log()).mean().item(), rel=1e-4)


def test_frozen_encoder_stays_as_it_is():
    model = models.build(member_of("smoke").model_copy(update={"freeze_encoder": True})).train()
    before = {k: v.clone() for k, v in model.net.encoder.state_dict().items()}
    model(torch.randint(0, 255, (2, 1, 64, 64), dtype=torch.uint8))[0].sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in model.net.encoder.state_dict().items())
    assert all(p.grad is None for p in model.net.encoder.parameters())
    assert all(p.grad is not None for p in model.net.decoder.parameters())


def test_a_pair_that_the_library_lacks_is_refused():
    with pytest.raises(UsageError, match=r"encoder 'nonsense' cannot be paired with unetplusplus"):
        models.build(member_of("smoke").model_copy(update={"architecture": "unetplusplus", "encoder": "nonsense"}))


def test_start_weights_carry_encoder_decoder_and_label_head(tmp_path, monkeypatch):
    from weights.pack import packed

    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    member = member_of("smoke").model_copy(update={"label_head": config.LabelHead(head=HeadConfig(width=8))})
    donor = models.build(member)
    from cxr.files import write_json
    from cxr.torchkit.checkpoint import save_weights

    save_weights(tmp_path / "weights.safetensors", donor.state_dict())
    write_json(tmp_path / "run.json", {"config": {"member": {"architecture": "unet"}}})
    from safetensors.numpy import save_file

    save_file(packed(tmp_path), tmp_path / "mine.safetensors")
    model = models.build(member.model_copy(update={"weights": "mine"}))
    for name, value in donor.state_dict().items():
        assert torch.allclose(value.float(), model.state_dict()[name].float(), atol=1e-3), name


def test_mask_follows_the_crop(data):
    found = data.sample("1.2.0", 0)
    assert found["mask"].dtype == np.uint8
    assert set(np.unique(found["mask"])) <= {0, 1}
    bright = found["image"] > 170  # the drawn square
    assert np.mean(bright == (found["mask"] > 0)) > 0.9


def test_maps_return_to_the_full_frame(data):
    patch = np.full((64, 64), 200, np.uint8)
    frame = data.full_frame("1.2.0", patch)
    assert (frame[8:56, 4:60] == 200).all()
    assert frame.sum() == 200 * 48 * 56
    assert data.truth("1.2.0").any()
    assert not data.truth("1.2.2").any()


def test_watched_score_is_the_kaggle_dice(data, monkeypatch):
    ids = ["1.2.0", "1.2.2"]
    perfect = {i: (data.truth(i) * 255).astype(np.uint8) for i in ids}
    monkeypatch.setattr(infer, "maps", lambda models, data, image_ids, on: iter(perfect[i] for i in image_ids))
    assert infer.watch(data, ids, CPU)(None)["score"] == 1.0
    monkeypatch.setattr(infer, "maps", lambda models, data, image_ids, on: iter([np.zeros((64, 64), np.uint8)] * 2))
    assert infer.watch(data, ids, CPU)(None)["score"] == 0.5  # empty everywhere: right for the negative alone


def test_units_write_what_the_contract_says(paths):
    member = config.read("smoke")
    for fold in range(2):
        unit = config.unit(RECIPE, paths, "smoke", fold, member)
        train.run(unit, lambda identity, metrics, unit=unit: train.train(unit, RECIPE, paths, identity, metrics))
        index = tables.read(unit.folder / "index.parquet", tables.MAP_INDEX, "")
        maps = np.load(unit.folder / "maps.npy", allow_pickle=False)
        folds = Prepared(paths.prepared, 2).folds
        assert set(index["image_id"]) == set(folds.index[folds["fold"] == fold])
        assert maps.shape == (len(index), 64, 64)
        assert maps.dtype == np.uint8
    unit = config.test_unit(RECIPE, paths, "smoke", member)
    train.run(unit, lambda _identity, _metrics: predict.predict(unit, "smoke", RECIPE, paths))
    assert np.load(unit.folder / "maps.npy").shape == (3, 64, 64)
    assert all(each.current for each in config.units(RECIPE, paths))


def test_test_maps_are_the_mean_over_folds(data):
    class Constant(torch.nn.Module):
        def __init__(self, logit):
            super().__init__()
            self.logit = logit

        def forward(self, image):
            return torch.full(image.shape, self.logit), None

    ids = data.image_ids[:2]
    found = list(infer.maps([Constant(-20.0), Constant(20.0)], data, ids, CPU))
    assert (found[0][8:56, 4:60] == 128).all()
