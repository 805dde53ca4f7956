"""Stage 2's losses against their formulas in NumPy."""

import numpy as np
import pytest
import torch

from cxr.training.settings import HeadConfig
from stage2_segment import config
from stage2_segment.losses import SegmenterLoss

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 2, (2, 1, 8, 8)).astype(np.float32)
MASK = (RANDOM.random((2, 1, 8, 8)) < 0.3).astype(np.uint8)
P = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
RIGHT = np.where(MASK > 0, P, 1 - P)  # probability of the truth, pixel by pixel
DICE = 2 * ((P * MASK).sum() + 1) / (P.sum() + MASK.sum() + 2)  # 1 is added to each of the three sums
BCE = -np.log(RIGHT).mean()
FOCAL = (-np.where(MASK > 0, 0.3, 0.7) * (1 - RIGHT) ** 3.5 * np.log(RIGHT)).mean()
SHAPE = {"focal_alpha": 0.3, "focal_gamma": 3.5}
NONE = {"bce": 0.0, "dice": 0.0, "log_dice": 0.0, "focal": 0.0}
FORMULAS = {
    "bce": ({"bce": 2.7}, 2.7 * BCE),
    "dice": ({"dice": 2.0}, 2 * (1 - DICE)),
    "log": ({"log_dice": 1.0}, -np.log(DICE)),
    "focal": ({"focal": 0.5} | SHAPE, 0.5 * FOCAL),
    "plain focal": ({"focal": 1.0, "focal_gamma": 0.0}, BCE),
    "3-1-4": ({"bce": 3.0, "dice": 1.0, "focal": 4.0} | SHAPE, 3 * BCE + 1 - DICE + 4 * FOCAL),
}


def loss(member, settings: dict, mask: np.ndarray = MASK, label: torch.Tensor | None = None) -> float:
    head = config.LabelHead(head=HeadConfig(), weight=0.1)
    chosen = member.model_copy(update={"loss": config.LossConfig(**(NONE | settings)), "label_head": head})
    batch = {"image": None, "mask": torch.tensor(mask), "label": torch.tensor([1.0, 0.0])}
    return SegmenterLoss(chosen)(lambda _: (torch.tensor(LOGITS), label), batch).item()


@pytest.mark.parametrize("name", FORMULAS)
def test_each_loss_and_their_sum(name, member):
    settings, expected = FORMULAS[name]
    assert loss(member("m"), settings) == pytest.approx(expected, rel=1e-4)


def test_the_label_head_adds_its_cross_entropy(member):
    label = torch.tensor([2.0, -1.0])
    extra = 0.1 * np.mean([np.log1p(np.exp(-2.0)), np.log1p(np.exp(-1.0))])
    assert loss(member("m"), {"bce": 1.0}, label=label) == pytest.approx(BCE + extra, rel=1e-4)


@pytest.mark.parametrize("name", ["dice", "log_dice"])
def test_an_empty_batch_has_no_dice(name, member):
    assert loss(member("m"), {name: 1.0}, mask=np.zeros_like(MASK)) == 0
