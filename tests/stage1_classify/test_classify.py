"""Stage 1: networks, examples, and the files that stage 3 reads."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cxr import tables
from cxr.errors import UsageError
from cxr.geometry import Box
from cxr.paths import Paths
from cxr.prepared import Prepared
from cxr.recipe import Recipe
from cxr.training import HeadConfig
from stage1_classify import config, timm_backend, train
from stage1_classify.data import ClassifierData

RECIPE = Recipe(
    name="r", about="a test", prepared_size=64, folds=2, subfolds=2, stage0="smoke", stage1=["smoke"], stage2=[],
    stage3="smoke",
)  # fmt: skip


@pytest.fixture
def paths(prepared_paths) -> Paths:
    return prepared_paths


@pytest.fixture
def data(paths) -> ClassifierData:
    prepared = Prepared(paths.prepared, 2)
    ids = prepared.folds["image_id"].tolist()
    return ClassifierData(prepared, dict.fromkeys(ids, Box(4, 8, 60, 56)), config.read("smoke"), ids, 1)


@pytest.mark.parametrize("name", ["mnv2_crop", "smoke", "effb4_crop", "xception_crop"])
def test_network_at_64_pixels(name):
    member = config.read(name).model_copy(update={"weights": None})
    model = timm_backend.build(member)
    features = model(torch.randint(0, 255, (2, 1, 64, 64), dtype=torch.uint8))
    assert features.shape == (2, member.head.width)
    logits = model.classify(features)
    assert logits.shape == (2,)
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert frozen < (0.3 if "xception" in name else 0.001) * sum(p.numel() for p in model.parameters())


def test_one_batch_can_be_overfitted():
    member = config.read("smoke").model_copy(update={"head": HeadConfig(width=16, dropout=(0, 0, 0), pool="max")})
    torch.manual_seed(0)
    model = timm_backend.build(member)
    batch = {"image": torch.randint(0, 255, (4, 1, 64, 64), dtype=torch.uint8), "label": torch.tensor([0.0, 1, 0, 1])}
    step, loss = torch.optim.Adam(model.parameters(), 0.01), timm_backend._loss(1.0, torch.device("cpu"))
    for _ in range(30):
        value = loss(model, batch)
        step.zero_grad()
        value.backward()
        step.step()
    assert value.item() < 0.05


def test_positive_weight_counts_positives_more():
    member = config.read("smoke")
    model = timm_backend.build(member).eval()
    batch = {"image": torch.zeros(2, 1, 64, 64, dtype=torch.uint8), "label": torch.ones(2)}
    once, twice = (timm_backend._loss(weight, torch.device("cpu"))(model, batch) for weight in (1.0, 2.0))
    assert twice.item() == pytest.approx(2 * once.item())


def test_examples_are_keyed_and_carry_their_label(data):
    first, again = data.sample("1.2.0", 3), data.sample("1.2.0", 3)
    assert np.array_equal(first["image"], again["image"])
    assert first["image"].shape == (1, 64, 64)
    assert first["image"].dtype == np.uint8
    assert (first["label"], data.sample("1.2.2", 3)["label"]) == (1, 0)
    assert data.batches(0) != data.batches(1)


def test_unit_writes_what_the_contract_says(paths, monkeypatch):
    for fold in range(2):
        unit = config.unit(RECIPE, paths, "smoke", fold, config.read("smoke"))
        train.run(unit, lambda identity, metrics, unit=unit: train.train(unit, RECIPE, paths, identity, metrics))
        assert unit.current
        found = tables.read(unit.folder / "predictions.parquet", tables.PREDICTIONS, "").set_index("image_id")
        features = np.load(unit.folder / "features.npz", allow_pickle=False)
        assert features["image_id"].tolist() == found.index.tolist()
        assert features["features"].shape == (len(found), 8)
        assert features["features"].dtype == np.float32
        folds = Prepared(paths.prepared, 2).folds
        assert set(found.index[found["split"] == "train"]) == set(folds.index[folds["fold"] == fold])
        assert (found["split"] == "test").sum() == 3
        assert not (unit.folder / "checkpoint.pt").exists()
        again = timm_backend.infer(_data_of(paths, unit), list(found.index), unit.folder)
        assert np.allclose(again[0], found["prob"], atol=1e-6)  # saved and loaded, it says the same


def _data_of(paths, unit) -> ClassifierData:
    prepared = Prepared(paths.prepared, 2)
    boxes = {image_id: Box(4, 8, 60, 56) for image_id in prepared.manifest.index}
    return ClassifierData(prepared, boxes, unit.config.member, [], 1)


def test_features_give_the_probability(data, tmp_path):
    """The bottleneck and the dense layer are all there is between an image and its probability."""
    member = data.member.model_copy(update={"hflip_tta": False})
    data = ClassifierData(data.prepared, data.boxes, member, data.image_ids, 1)
    model = timm_backend.build(member)
    prob, features = timm_backend._infer(model, data, data.image_ids[:5], torch.device("cpu"))
    dense = model.head.dense[1]
    logits = features @ dense.weight.detach().numpy()[0] + dense.bias.item()
    assert np.allclose(1 / (1 + np.exp(-logits)), prob, atol=1e-5)


def test_local_weights_load_and_one_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    member = config.read("smoke")
    donor = timm_backend.build(member)
    tensors = {key: value.half() for key, value in donor.backbone.state_dict().items() if value.is_floating_point()}
    stem = tensors["conv_stem.weight"]
    tensors["conv_stem.weight"] = torch.cat([stem, torch.zeros_like(stem), stem], dim=1)  # as for three colours
    save_file(tensors, tmp_path / "mine.safetensors")
    model = timm_backend.build(member.model_copy(update={"weights": "mine"}))
    found = model.backbone.state_dict()["conv_stem.weight"]
    assert torch.allclose(found, 2 * donor.backbone.state_dict()["conv_stem.weight"], atol=1e-2)
    other = member.model_copy(update={"weights": "mine", "backbone": "resnet18"})
    with pytest.raises(UsageError, match="do not fit the backbone resnet18"):
        timm_backend.build(other)
    with pytest.raises(UsageError, match=r"expected absent\.safetensors"):
        timm_backend.build(member.model_copy(update={"weights": "absent"}))


def test_offline_hub_is_said_and_training_starts_from_random_weights(monkeypatch, capsys):
    real = timm_backend.Classifier

    def offline(member, pretrained=False):
        if pretrained:
            raise ConnectionError
        return real(member)

    monkeypatch.setattr(timm_backend, "Classifier", offline)
    timm_backend.build(config.read("smoke").model_copy(update={"weights": "imagenet"}))
    assert "cannot be fetched" in capsys.readouterr().out


def test_a_stride_that_the_backbone_lacks_is_refused():
    member = config.read("smoke").model_copy(update={"head": HeadConfig(stride=64)})
    with pytest.raises(UsageError, match="has no stride 64"):
        timm_backend.build(member)
