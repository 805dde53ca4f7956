"""Classifiers in PyTorch: any timm backbone, tapped at a stride, with the tap-and-head of cxr.torchkit.heads.

A backend offers two functions: fit(...) -> metrics, and infer(...) -> (prob, features).
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cxr.errors import UsageError
from cxr.metrics import auc
from cxr.torchkit.checkpoint import load_weights
from cxr.torchkit.device import autocast, device, move, seed
from cxr.torchkit.heads import TapHead
from cxr.torchkit.loading import in_order
from cxr.torchkit.loop import Trainer
from cxr.torchkit.weights import from_hub, load_fitting, parts, recalibrated
from stage1_classify.config import ClassifierConfig
from stage1_classify.data import ClassifierData


class Classifier(nn.Module):
    """Gray images uint8 [B, 1, s, s] -> bottleneck features [B, D]; `classify` turns these into logits [B]."""

    def __init__(self, config: ClassifierConfig, pretrained: bool = False) -> None:
        super().__init__()
        self.mean, self.std = 255 * config.mean, 255 * config.std
        self.backbone = _backbone(config, pretrained)
        self.head = TapHead(self.backbone.feature_info.channels()[-1], config.head)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone((image.float() - self.mean) / self.std)[-1])

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return self.head.classify(features)


def fit(data: ClassifierData, watch_ids: list[str], folder: Path, identity: str, label: str, fold: int) -> dict:
    """Train the unit's model in `folder`, from its checkpoint where there is one; returns metrics."""
    member, on = data.member, device()
    seed(data.seed, fold)
    model = build(member)
    if member.recalibrate:
        some = in_order(data.image_ids[: 16 * member.training.batch], data.plain, member.training.batch)
        recalibrated(model, (batch["image"] for batch in some))
    weight = member.positive_weight if member.balance == "weight" else 1.0
    watch = _watch(data, watch_ids, on)
    return Trainer(model, data, _loss(weight, on), member.training, folder, identity, on, watch, label).fit()


def infer(data: ClassifierData, image_ids: list[str], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float32 [N] and bottleneck features float32 [N, D] of images under the model in `folder`."""
    model = Classifier(data.member)
    model.load_state_dict(load_weights(folder / "weights.safetensors"))
    return _infer(model, data, image_ids, device())


def build(config: ClassifierConfig) -> Classifier:
    """A classifier with its start weights; says in one line where they are from."""
    if config.weights is None:
        return Classifier(config)
    if config.weights == "imagenet":
        return from_hub(lambda pretrained: Classifier(config, pretrained), config.backbone)
    model, found = Classifier(config), parts(config.weights)
    share = load_fitting(model.backbone, found["encoder"])
    if share < 0.5:
        raise UsageError(f"weights '{config.weights}' do not fit the backbone {config.backbone} ({share:.0%} found)")
    head = load_fitting(model.head, found.get("head", {}))
    print(f"start weights: {config.weights} (backbone{', head' if head > 0.5 else ''})", flush=True)
    return model


def _backbone(config: ClassifierConfig, pretrained: bool) -> nn.Module:
    """The backbone up to the tap, under timm's own names."""
    import timm

    try:
        strides = timm.create_model(config.backbone, features_only=True).feature_info.reduction()
        tap = strides.index(config.head.stride)
        how = {"features_only": True, "out_indices": (tap,), "in_chans": 1, "pretrained": pretrained}
        return _cut(timm.create_model(config.backbone, **how, **config.backbone_args))
    except ValueError:
        raise UsageError(f"{config.backbone} has no stride {config.head.stride}; it has {strides}") from None
    except (RuntimeError, AttributeError) as error:
        raise UsageError(f"timm cannot tap backbone '{config.backbone}': {error}") from None


def _cut(backbone: nn.Module) -> nn.Module:
    """Drop the stages behind the tap where timm keeps them, and freeze what else does not reach it."""
    module = backbone.feature_info.module_name()[-1]
    if module.startswith("blocks.") and hasattr(backbone, "blocks"):
        backbone.blocks = backbone.blocks[: int(module.split(".")[1]) + 1]
    backbone.eval()(torch.zeros(1, 1, 64, 64))[-1].sum().backward()
    for parameter in backbone.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    return backbone.train()


def _loss(positive_weight: float, on: torch.device):
    weight = torch.tensor(positive_weight, device=on)

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = model.classify(model(batch["image"])).float()
        return F.binary_cross_entropy_with_logits(logits, batch["label"], pos_weight=weight)

    return loss


def _watch(data: ClassifierData, image_ids: list[str], on: torch.device):
    """A function model -> {'score'}: AUC of the watched images; minus log-loss where only one class is there."""
    labels = data.prepared.labels(image_ids) if image_ids else np.empty(0)
    if len(labels) == 0:
        return None

    def score(model: nn.Module) -> dict[str, float]:
        prob, _ = _infer(model, data, image_ids, on)
        found = auc(labels, prob)
        loss = float(F.binary_cross_entropy(torch.tensor(prob), torch.tensor(labels)))
        return {"score": -loss if found is None else found, "watched_loss": loss}

    return score


@torch.inference_mode()
def _infer(model: nn.Module, data: ClassifierData, image_ids: list[str], on: torch.device):
    """Means over the image and, with TTA, the mirrored image: of the logits, and of the features."""
    model.to(on, memory_format=torch.channels_last).eval()
    probs, features = [], []
    for batch in in_order(image_ids, data.plain, 2 * data.member.training.batch):
        images = move(batch, on)["image"]
        views = [images, images.flip(-1)] if data.member.hflip_tta else [images]
        with autocast(on, data.member.training.amp):
            found = [model(view) for view in views]
        mean = torch.stack(found).float().mean(0)
        logits = torch.stack([model.classify(each.float()) for each in found]).mean(0)
        probs.append(torch.sigmoid(logits).cpu().numpy())
        features.append(mean.cpu().numpy())
    return np.concatenate(probs), np.concatenate(features)
