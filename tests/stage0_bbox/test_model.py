"""The small detector: shapes, gradients, one batch learnt by heart, weights that come back."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights as Weights

from cxr.config import validate_settings
from cxr.errors import UsageError
from cxr.imaging.geometry import Box, box_iou
from cxr.torchkit.checkpoint import load_weights, save_weights
from stage0_bbox import config
from stage0_bbox import network as model_module
from stage0_bbox.check import check_detector, ensure_start_weights
from stage0_bbox.network import Detector, build_detector, sum_losses, vote_box
from tests.stage0_bbox.conftest import RECIPE

SIZE = 64


@pytest.fixture
def detector() -> config.DetectorConfig:
    return config.read_detector_settings("smoke")


BOXES = ((2, 2, 40, 40), (24, 20, 62, 62), (4, 22, 60, 60), (20, 2, 50, 62))  # with their mean: IoU .47


def batch(count: int = 4) -> dict[str, torch.Tensor]:
    """Bright rectangles on gray, and their edges."""
    images = np.full((count, 1, SIZE, SIZE), 40, np.uint8)
    for image, (xmin, ymin, xmax, ymax) in zip(images, BOXES[:count], strict=True):
        image[0, ymin:ymax, xmin:xmax] = 190
    return {"image": torch.from_numpy(images), "box": torch.tensor(BOXES[:count], dtype=torch.float32)}


def test_every_parameter_gets_a_gradient_and_no_loss_is_nan(detector):
    torch.manual_seed(0)
    model = Detector(detector).train()
    loss = sum_losses(model, batch())
    loss.backward()
    assert torch.isfinite(loss)
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


def test_one_batch_is_learnt_by_heart_and_the_weights_come_back(detector, tmp_path):
    torch.manual_seed(0)
    model, few = Detector(detector).train(), batch()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(80):
        optimizer.zero_grad()
        sum_losses(model, few).backward()
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        boxes, scores = model(few["image"])
    assert box_iou(boxes.numpy(), few["box"].numpy()).mean() > 0.75
    assert scores.min() > 0.5
    save_weights(tmp_path / "w.safetensors", model.state_dict())
    again = Detector(detector).eval()
    again.load_state_dict(load_weights(tmp_path / "w.safetensors"))
    with torch.inference_mode():
        torch.testing.assert_close(again(few["image"]), (boxes, scores))


def test_mixed_precision_reaches_the_backbone_only(detector):
    model = Detector(detector).train()
    with torch.autocast("cpu", torch.bfloat16):
        found = model(**batch(2))
    assert {loss.dtype for loss in found.values()} == {torch.float32}
    assert model.net.backbone.dtype == torch.bfloat16


def test_start_weights_of_three_channels_serve_one(detector, tmp_path, monkeypatch):
    import timm

    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    source = timm.create_model("mobilenetv2_100", pretrained=False, num_classes=3)
    save_file(source.state_dict(), tmp_path / "start.safetensors")
    model, start = build_detector(detector.model_copy(update={"weights": "start"}))
    stem = model.net.backbone.inner.body.conv_stem.weight
    torch.testing.assert_close(stem, source.conv_stem.weight.sum(1, keepdim=True))
    assert start.startswith("start")
    save_file({"encoder.other": torch.zeros(2)}, tmp_path / "start.safetensors")
    with pytest.raises(UsageError, match="do not fit"):
        build_detector(detector.model_copy(update={"weights": "start"}))


@pytest.mark.parametrize("change", [
    {"weights": None}, {"weights": "coco"}, {"weights": "imagenet"},
    {"model": "fasterrcnn_resnet50_fpn_v2", "weights": "imagenet"},
])  # fmt: skip
def test_a_start_that_cannot_be_is_refused(detector, change):
    with pytest.raises(UsageError, match=r"a\.yaml: weights: .*random"):
        validate_settings(detector.model_dump() | change, config.DetectorConfig, "a.yaml")


@pytest.fixture
def large() -> config.DetectorConfig:
    return config.read_detector_settings("fasterrcnn_r50").model_copy(update={"size": 64})


def test_without_a_hub_and_without_its_file_it_is_refused_and_nothing_is_left(large, monkeypatch, home):
    def offline(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(Weights, "get_state_dict", offline)
    recipe = RECIPE.model_copy(update={"stage0": "fasterrcnn_r50"})
    what = r"fasterrcnn_r50\.yaml: weights: coco: .*no route.*put fasterrcnn_resnet50_fpn_v2_coco\.safetensors into"
    for ask in (ensure_start_weights, check_detector):
        with pytest.raises(UsageError, match=what):
            ask(recipe, large)
    named = large.model_copy(update={"weights": "no_such_weights"})
    with pytest.raises(UsageError, match=r"expected no_such_weights\.safetensors"):
        check_detector(recipe, named)
    assert not list(home.rglob("*.safetensors"))


def test_the_large_one_starts_from_coco_which_is_asked_for_once(large, monkeypatch):
    from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

    donor, asked = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=91).state_dict(), []
    monkeypatch.setattr(Weights, "get_state_dict", lambda *_, **__: asked.append(1) or donor)
    for _ in range(2):
        ensure_start_weights(RECIPE, large)
    assert asked == [1]
    model, about = build_detector(large)
    assert about.startswith("fasterrcnn_resnet50_fpn_v2_coco.safetensors, hub")
    assert about.endswith("(100% of the tensors)")
    box_head = model.net.roi_heads.box_head.state_dict()
    assert all(torch.equal(value, donor[f"roi_heads.box_head.{key}"]) for key, value in box_head.items())
    assert torch.equal(model.net.backbone.inner.body.conv1.weight, donor["backbone.body.conv1.weight"])
    torch.manual_seed(0)
    loss = sum_losses(model.train(), batch(2))
    loss.backward()
    assert torch.isfinite(loss)
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    part = {key: value for key, value in donor.items() if not key.startswith("rpn.")}
    monkeypatch.setattr(model_module, "read_tensors", lambda _path: part)
    with pytest.raises(UsageError, match=r"weights 'coco' .* do not fit"):
        build_detector(large)


def test_a_vote_is_the_mean_by_score_of_what_overlaps_the_best():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60]])
    box, score = vote_box(boxes, torch.tensor([0.6, 0.2, 0.5]), 0.7)
    torch.testing.assert_close(box, torch.tensor([0.0, 0, 10, 10.5]))
    assert float(score) == pytest.approx(0.6)
    nothing, none = vote_box(boxes[:0], torch.zeros(0), 0.7)
    assert (nothing.tolist(), float(none)) == ([0, 0, 0, 0], 0.0)


def test_moves_keep_the_box_on_its_rectangle(detector):
    from stage0_bbox.data import move_image_and_box

    image = np.zeros((SIZE, SIZE), np.uint8)
    image[10:40, 20:50] = 255
    for seed in range(8):
        there, box = move_image_and_box(image, Box(20, 10, 50, 40), detector, np.random.default_rng(seed))
        rows, columns = np.flatnonzero(there.max(1) > 127), np.flatnonzero(there.max(0) > 127)
        drawn = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        np.testing.assert_allclose(box, drawn, atol=1.0)
