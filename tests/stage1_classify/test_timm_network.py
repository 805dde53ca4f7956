"""Networks of timm members at 64 pixels, their heads and their loss."""

import numpy as np
import pytest
import torch

from cxr.training.settings import HeadConfig
from stage1_classify import config
from stage1_classify.timm_members import backend, network


@pytest.mark.parametrize("name", ["mnv2_crop", "smoke", "effb4_crop", "xception_crop"])
def test_network_at_64_pixels(name):
    member = config.read_member(name).model_copy(update={"weights": "random"})
    model = network.build_classifier(member)
    features = model(torch.randint(0, 255, (2, 1, 64, 64), dtype=torch.uint8))
    assert features.shape == (2, member.head.width)
    logits = model.compute_logits(features)
    assert logits.shape == (2,)
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert frozen < (0.3 if "xception" in name else 0.001) * sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("kind", "backbone", "width"), [("pooled", "resnet34", 512), ("flat", "resnet34", 24)])
def test_other_heads_at_64_pixels(kind, backbone, width):
    head = HeadConfig(kind=kind, width=24, dropout=(0, 0, 0.5))
    model = network.build_classifier(
        config.read_member("smoke").model_copy(update={"head": head, "backbone": backbone})
    )
    features = model(torch.randint(0, 255, (2, 1, 64, 64), dtype=torch.uint8))
    assert features.shape == (2, width)
    model.compute_logits(features).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_frozen_backbone_stays_as_it_is():
    model = network.build_classifier(config.read_member("smoke").model_copy(update={"freeze_backbone": True})).train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model.compute_logits(model(torch.randint(0, 255, (4, 1, 64, 64), dtype=torch.uint8))).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    assert all(p.grad is None for p in model.backbone.parameters())


def test_one_batch_can_be_overfitted():
    member = config.read_member("smoke").model_copy(
        update={"head": HeadConfig(width=16, dropout=(0, 0, 0), pool="max")}
    )
    torch.manual_seed(0)
    model = network.build_classifier(member)
    batch = {"image": torch.randint(0, 255, (4, 1, 64, 64), dtype=torch.uint8), "label": torch.tensor([0.0, 1, 0, 1])}
    step, loss = torch.optim.Adam(model.parameters(), 0.01), backend._build_loss(member, torch.device("cpu"))
    for _ in range(30):
        value = loss(model, batch)
        step.zero_grad()
        value.backward()
        step.step()
    assert value.item() < 0.05


def test_positive_weight_counts_positives_more():
    once, twice = (loss_of(positive_weight=weight) for weight in (1.0, 2.0))
    assert twice == pytest.approx(2 * once)


def test_label_smoothing_moves_the_labels_towards_a_half():
    """With .25 a positive of probability p costs -(.875 log p + .125 log(1 - p))."""
    p = np.exp(-loss_of())
    assert loss_of(label_smoothing=0.25) == pytest.approx(-(0.875 * np.log(p) + 0.125 * np.log(1 - p)), rel=1e-5)


def loss_of(**settings) -> float:
    """Loss of two equal positives under a network that is the same each time."""
    member = config.read_member("smoke").model_copy(update=settings)
    torch.manual_seed(0)
    model = network.build_classifier(member).eval()
    batch = {"image": torch.zeros(2, 1, 64, 64, dtype=torch.uint8), "label": torch.ones(2)}
    return backend._build_loss(member, torch.device("cpu"))(model, batch).item()
