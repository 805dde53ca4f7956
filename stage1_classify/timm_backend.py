"""Classifiers in PyTorch: any timm backbone with a head of cxr.torchkit.heads.

A backend offers download(start, file) and check(member), before any work; fit(...) -> metrics;
infer(...) -> (prob, features).
"""

import difflib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cxr.course import explain_memory
from cxr.errors import UsageError
from cxr.metrics import auc
from cxr.torchkit.checkpoint import load_weights
from cxr.torchkit.device import device, full_precision, move, seed
from cxr.torchkit.heads import head
from cxr.torchkit.loading import in_order
from cxr.torchkit.loop import Trainer
from cxr.torchkit.weights import download as download
from cxr.torchkit.weights import load_fitting, parts, recalibrated
from cxr.weights import RANDOM, describe, find
from stage1_classify.config import ClassifierConfig, settled, start
from stage1_classify.data import ClassifierData


class Classifier(nn.Module):
    """Gray images uint8 [B, 1, s, s] -> bottleneck features [B, D]; `classify` turns these into logits [B]."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        config = settled(config)
        if None in (config.mean, config.std):
            find(start(config))  # which says what is missing
        self.mean, self.std = 255 * config.mean, 255 * config.std
        self.tapped = config.head.kind == "tap"
        self.backbone = (_tapped if self.tapped else _whole)(config)
        self.frozen = config.freeze_backbone
        if self.frozen:
            self.backbone.requires_grad_(False)
        channels = self.backbone.feature_info.channels()[-1] if self.tapped else self.backbone.num_features
        self.head = head(channels, config.view.size // 32, config.head)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        gray = (image.float() - self.mean) / self.std
        return self.head(self.backbone(gray)[-1] if self.tapped else self.backbone.forward_features(gray))

    def train(self, mode: bool = True) -> "Classifier":
        """As nn.Module's, but a frozen backbone keeps its batch norm statistics too."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return self.head.classify(features)


def fit(data: ClassifierData, watch_ids: list[str], folder: Path, identity: str, label: str, fold: int) -> dict:
    """Train the unit's model in `folder`, from its checkpoint where there is one; returns metrics."""
    member, on = data.member, device()
    seed(data.seed, fold)
    model = build(member)
    if member.recalibrate:
        some, training = data.image_ids[: 16 * member.training.batch], member.training
        batches = in_order(some, data.seen, training.batch, training.workers)
        recalibrated(model, (batch["image"] for batch in batches))
    watch = _watch(data, watch_ids, on)
    return Trainer(model, data, _loss(member, on), member.training, folder, identity, on, watch, label).fit()


def infer(data: ClassifierData, image_ids: list[str], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float32 [N] and bottleneck features float32 [N, D] of images under the model in `folder`."""
    model = Classifier(data.member)
    model.load_state_dict(load_weights(folder / "weights.safetensors"))
    with explain_memory(f"{folder.parent.name}, {folder.name}", data.member.training):
        return _infer(model, data, image_ids, device())


def check(member: ClassifierConfig) -> None:
    """Raise UsageError, the key first, where the network cannot be made or used, or its start weights do not fit."""
    model = Classifier(member).eval()
    _passes_an_image(model, member)
    if not start(member).random:
        _load(Classifier(member), member)


@torch.inference_mode()
def _passes_an_image(model: "Classifier", member: ClassifierConfig) -> None:
    """Without memory or arithmetic, on the meta device; on the CPU only what cannot be tried so."""
    for on in ("meta", "cpu"):
        try:
            side = member.view.largest
            model = model.to_empty(device="meta") if on == "meta" else Classifier(member).eval()
            model.classify(model(torch.zeros(2, 1, side, side, dtype=torch.uint8, device=on)))
            return
        except Exception as error:  # backbones raise many kinds
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UsageError(
        f"backbone: {member.backbone} with head: {{kind: {member.head.kind}}} cannot take {side} x {side} images "
        f"({problem}); a convolutional one can, resnet34 or efficientnet_b4 say"
    )


def parameters(member: ClassifierConfig) -> int:
    """Numbers in all of the network's tensors, batch norm's statistics among them, as Keras counts."""
    model = Classifier(member.model_copy(update={"weights": RANDOM}))
    return sum(value.numel() for value in model.state_dict().values() if value.is_floating_point())


def build(config: ClassifierConfig) -> Classifier:
    """A classifier with its start weights; says in one line where they are from."""
    model = Classifier(config)
    if start(config).random:
        return model
    head = _load(model, config)
    about = describe(settled(config), start(config), "backbone_args")
    print(f"start weights: {about} (backbone{', head' if head > 0.5 else ''})", flush=True)
    return model


def _load(model: Classifier, config: ClassifierConfig) -> float:
    """Load the start weights into the backbone, and into the head as far as they fit: the share of it found."""
    found = parts(find(start(config)))
    share = load_fitting(model.backbone, found["encoder"])
    if share < start(config).least:
        raise UsageError(
            f"weights: '{config.weights}' do not fit the backbone {config.backbone} ({share:.0%} found); "
            f"they would fit the network that they were trained with"
        )
    return load_fitting(model.head, found.get("head", {}))


def _tapped(config: ClassifierConfig) -> nn.Module:
    """The backbone up to the tap, under timm's own names."""
    try:
        strides = _made(config.backbone, features_only=True).feature_info.reduction()
        tap = strides.index(config.head.stride)
        how = {"features_only": True, "out_indices": (tap,), "in_chans": 1, "pretrained": False}
        return _cut(_made(config.backbone, **how, **config.backbone_args))
    except ValueError:
        asked = config.head.stride
        raise UsageError(f"head.stride: {config.backbone} has no stride {asked}; it has {strides}") from None
    except (RuntimeError, AttributeError, AssertionError) as error:
        other = "head: {kind: pooled} needs no tap"
        raise UsageError(f"backbone: timm cannot tap '{config.backbone}' ({error}); {other}") from None


def _whole(config: ClassifierConfig) -> nn.Module:
    """The backbone up to its last feature map, without timm's pooling and classifier."""
    how = {"num_classes": 0, "global_pool": "", "in_chans": 1, "pretrained": False}
    return _made(config.backbone, **how, **config.backbone_args)


def _made(backbone: str, **how) -> nn.Module:
    import timm

    try:
        return timm.create_model(backbone, **how)
    except RuntimeError as error:
        if backbone in timm.list_models():
            raise
        near = difflib.get_close_matches(backbone, timm.list_models(), n=3) or ["resnet34", "efficientnet_b4"]
        raise UsageError(f"backbone: timm has no '{backbone}'; near it: {', '.join(near)}") from error
    except TypeError as error:
        raise UsageError(f"backbone_args: {backbone} does not take them: {error}") from None


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


def _loss(member: ClassifierConfig, on: torch.device):
    weight, smoothing = torch.tensor(member.positive_weight, device=on), member.label_smoothing

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = model.classify(model(batch["image"])).float()
        target = batch["label"] * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)

    return loss


def _watch(data: ClassifierData, image_ids: list[str], on: torch.device):
    """A function model -> {'score'}: AUC of the watched images in one plain pass; minus log-loss of a single class."""
    labels = data.prepared.labels(image_ids) if image_ids else np.empty(0)
    if len(labels) == 0:
        return None

    def score(model: nn.Module) -> dict[str, float]:
        prob, _ = _infer(model, data.without_tta, image_ids, on)
        found = auc(labels, prob)
        loss = float(F.binary_cross_entropy(torch.tensor(prob), torch.tensor(labels)))
        return {"score": -loss if found is None else found, "watched_loss": loss}

    return score


def _infer(model: nn.Module, data: ClassifierData, image_ids: list[str], on: torch.device):
    """Means over the passes, and over the image and the mirrored image: of the logits, and of the features."""
    model.to(on, memory_format=torch.channels_last).eval()
    passes = [_pass(model, data, image_ids, on, number) for number in data.passes]
    logits, features = (np.mean(part, axis=0) for part in zip(*passes, strict=True))
    return (1 / (1 + np.exp(-logits))).astype(np.float32), features


@torch.inference_mode()
def _pass(model: nn.Module, data: ClassifierData, image_ids: list[str], on: torch.device, number: int):
    """Logits float32 [N] and features float32 [N, D] of one pass."""
    logits, features, training = [], [], data.member.training
    for batch in in_order(image_ids, partial(data.seen, number=number), 2 * training.batch, training.workers):
        images = move(batch, on)["image"]
        views = [images, images.flip(-1)] if data.member.hflip_tta else [images]
        with full_precision(on):
            found = [model(view) for view in views]
            logits.append(torch.stack([model.classify(each) for each in found]).mean(0).cpu().numpy())
        features.append(torch.stack(found).mean(0).cpu().numpy())
    return np.concatenate(logits), np.concatenate(features)
