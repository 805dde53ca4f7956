"""Grad-CAM: against what can be worked out by hand, and the command with its refusals."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError
from cxr.imaging.geometry import Box
from cxr.paths import ROOT, Paths
from cxr.recipe import Recipe
from cxr.training.settings import HeadConfig
from stage1_classify import cam as command
from stage1_classify import config
from stage1_classify.data import ClassifierData
from stage1_classify.timm_members import grad_cam, network

RECIPE = Recipe(
    name="r", about="a test", prepared_size=64, folds=2, subfolds=2, stage0="smoke", stage1=["smoke"], stage2=[],
    stage3="smoke",
)  # fmt: skip
IMAGES = torch.randint(0, 255, (3, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def trained(prepared_paths, monkeypatch) -> Paths:
    """The smoke member of both folds, with weights that differ."""
    for fold in (0, 1):
        folder = prepared_paths.fold_folder(1, "smoke", fold)
        folder.mkdir(parents=True)
        save_file(classifier(seed=fold).state_dict(), folder / "weights.safetensors")
    monkeypatch.setattr(command, "load_recipe_and_paths", lambda say: (RECIPE, prepared_paths))
    return prepared_paths


def classifier(seed: int = 0, **head) -> network.Classifier:
    """At random, but for a dense layer that likes most channels."""
    torch.manual_seed(seed)
    changes = {"head": HeadConfig(**head)} if head else {}
    model = network.Classifier(config.read_member("smoke").model_copy(update=changes)).eval()
    weight = model.head.dense[1].weight
    weight.data = torch.linspace(-1, 2, weight.shape[1])[None]
    return model


def run(monkeypatch, tmp_path, *arguments: str) -> dict[str, np.ndarray]:
    monkeypatch.setattr(sys, "argv", ["cam", *arguments, "--out", str(tmp_path / "with space" / "cam.npz")])
    command.main()
    with np.load(tmp_path / "with space" / "cam.npz") as file:
        return dict(zip(file["image_id"].tolist(), file["cam"], strict=True))


def test_of_a_pooled_head_it_is_the_map_weighted_by_the_dense_layer():
    """CAM itself (Zhou et al., CVPR 2016), up to the pool's factor."""
    model = classifier(kind="pooled", dropout=(0, 0, 0))
    with torch.no_grad():
        gray = (IMAGES.float() - model.mean) / model.std
        tap, dense = model.backbone.forward_features(gray), model.head.dense[1].weight[0]
        expected = (tap * dense[:, None, None]).sum(1).clamp(min=0) / (tap.shape[2] * tap.shape[3])
    assert expected.amax() > 0
    torch.testing.assert_close(grad_cam.grad_cam(model, IMAGES), expected)


@pytest.mark.parametrize("head", [{"kind": "tap", "stride": 16, "width": 8}, {"kind": "flat", "width": 8}])
def test_of_other_heads_the_weights_are_the_mean_gradients(head):
    """By differences: all of a channel moved by a little moves the logit by its weights' sum."""
    model = classifier(**head, dropout=(0, 0, 0)).double()
    gray = (IMAGES.double() - model.mean) / model.std
    with torch.no_grad():
        tap = model.backbone(gray)[-1] if model.is_tapped else model.backbone.forward_features(gray)
        logits = [[model.compute_logits(model.head(moved(tap, k, by))) for by in (1e-6, -1e-6)]
                  for k in range(tap.shape[1])]  # fmt: skip
        steps = [above - below for above, below in logits]
        weights = torch.stack(steps, 1) / 2e-6 / (tap.shape[2] * tap.shape[3])
        expected = (weights[:, :, None, None] * tap).sum(1).clamp(min=0)
    assert expected.amax() > 0
    found = grad_cam.grad_cam(model.float(), IMAGES)
    torch.testing.assert_close(found.double(), expected, rtol=2e-2, atol=1e-3 * float(expected.max()))


def moved(tap: torch.Tensor, channel: int, by: float) -> torch.Tensor:
    tap = tap.clone()
    tap[:, channel] += by
    return tap


def test_each_image_by_the_model_that_did_not_see_it(trained, monkeypatch, tmp_path):
    folds = Prepared(trained.prepared_folder, trained.folds_csv).folds["fold"]
    ids = [folds.index[folds == 1][0], folds.index[folds == 0][0]]
    found = run(monkeypatch, tmp_path, "smoke", *ids)
    assert list(found) == ids
    for image_id in ids:
        model = classifier()
        weights = trained.fold_folder(1, "smoke", folds[image_id]) / "weights.safetensors"
        model.load_state_dict(grad_cam.load_weights(weights))
        prepared, box = Prepared(trained.prepared_folder, trained.folds_csv), Box(4, 8, 60, 56)
        data = ClassifierData(prepared, {image_id: box}, config.read_member("smoke"), [], 1)
        raw = grad_cam.grad_cam(model, torch.from_numpy(data.load_inference_image(image_id)["image"][None]))[0].numpy()
        np.testing.assert_allclose(found[image_id], command.paste_on_canvas(data, image_id, raw), atol=1)


def test_the_map_lies_in_the_box_and_its_highest_is_255(trained):
    prepared, box = Prepared(trained.prepared_folder, trained.folds_csv), Box(4, 8, 60, 56)
    data = ClassifierData(prepared, {"1.2.0": box}, config.read_member("smoke"), [], 1)
    cam = command.paste_on_canvas(data, "1.2.0", np.array([[0.0, 2.0], [1.0, 0.5]]))
    assert cam.shape == (128, 128)
    assert cam.max() == 255
    inside = np.zeros_like(cam, bool)
    inside[16:112, 8:120] = True
    assert not cam[~inside].any()
    assert cam[16, 119] == 255  # upper right


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("other", "1.2.0"), "has no classifier other; it has smoke"),
        (("smoke", "1.9.0"), "1.9.0 is held out in no fold"),
        (("smoke", "ID_000000000"), "is held out in no fold"),
    ],
)
def test_what_is_refused(trained, monkeypatch, tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        run(monkeypatch, tmp_path, *arguments)
    assert not list(tmp_path.rglob("*.npz"))


def test_weights_that_are_missing_or_of_other_settings(trained, monkeypatch, tmp_path):
    for fold in (0, 1):
        save_file({"x": torch.zeros(1)}, trained.fold_folder(1, "smoke", fold) / "weights.safetensors")
    with pytest.raises(UsageError, match="of other settings"):
        run(monkeypatch, tmp_path, "smoke", "1.2.0")
    for fold in (0, 1):
        (trained.fold_folder(1, "smoke", fold) / "weights.safetensors").unlink()
    with pytest.raises(UsageError, match="made by: stage 1"):
        run(monkeypatch, tmp_path, "smoke", "1.2.0")


KERAS = """
import numpy as np
from cxr.training.settings import HeadConfig
from stage1_classify import config
from stage1_classify.keras_members.grad_cam import grad_cam
from stage1_classify.keras_members.network import build_network, split_network
view = config.read_member("smoke").view
how = {"framework": "keras", "backbone": "EfficientNetB0", "head": HeadConfig(kind="pooled", dropout=(0, 0, 0))}
how["weights"] = "random"
member = config.ClassifierConfig(**how, view=view, training=config.read_member("smoke").training)
model, images = build_network(member), np.random.default_rng(0).integers(0, 255, (2, 64, 64, 1)).astype(np.uint8)
backbone, head = split_network(model)
tap = np.asarray(backbone(images, training=False), np.float64)
dense = np.asarray(head.get_layer("logit").kernel, np.float64)[:, 0]
expected = np.maximum((tap * dense).sum(-1), 0) / (tap.shape[1] * tap.shape[2])
assert expected.max() > 0
np.testing.assert_allclose(grad_cam(model, images), expected, rtol=1e-3, atol=1e-4 * expected.max())
"""


def test_of_a_keras_network_it_is_the_same():
    """In a process of its own: TensorFlow and PyTorch crash in one."""
    subprocess.run([sys.executable, "-c", KERAS], cwd=ROOT, check=True)
