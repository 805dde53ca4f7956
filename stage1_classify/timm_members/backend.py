"""Classifiers in PyTorch: any timm backbone with a head of cxr.torchkit.heads.

A backend offers download_weights(start, path) and check_network(member), before any work; fit(...) -> metrics;
infer(...) -> (prob, features).
"""

import difflib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cxr.errors import UsageError
from cxr.torchkit.checkpoint import load_weights
from cxr.torchkit.device import full_precision, move_batch, seed_torch, select_device
from cxr.torchkit.heads import build_head
from cxr.torchkit.loading import load_in_order
from cxr.torchkit.loop import Trainer
from cxr.torchkit.weights import download_weights as download_weights
from cxr.torchkit.weights import load_fitting, read_parts, set_norm_statistics
from cxr.training.start_weights import RANDOM, describe_start, require_weights_file
from cxr.training.training_state import explain_out_of_memory
from evaluation.metrics import roc_auc
from stage1_classify.config import ClassifierConfig, complete_member, get_start_weights
from stage1_classify.data import ClassifierData


class Classifier(nn.Module):
    """Gray images uint8 [B, 1, s, s] -> bottleneck features [B, D]; `compute_logits` turns these into logits [B]."""

    def __init__(self, member: ClassifierConfig) -> None:
        super().__init__()
        member = complete_member(member)
        if None in (member.mean, member.std):
            require_weights_file(get_start_weights(member))  # which says what is missing
        self.mean, self.std = 255 * member.mean, 255 * member.std
        self.is_tapped = member.head.kind == "tap"
        self.backbone = (_build_tapped if self.is_tapped else _build_whole)(member)
        self.freezes_backbone = member.freeze_backbone
        if self.freezes_backbone:
            self.backbone.requires_grad_(False)
        channels = self.backbone.feature_info.channels()[-1] if self.is_tapped else self.backbone.num_features
        self.head = build_head(channels, member.view.size // 32, member.head)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        gray = (image.float() - self.mean) / self.std
        return self.head(self.backbone(gray)[-1] if self.is_tapped else self.backbone.forward_features(gray))

    def train(self, mode: bool = True) -> "Classifier":
        """As nn.Module's, but a frozen backbone keeps its batch norm statistics too."""
        super().train(mode)
        if self.freezes_backbone:
            self.backbone.eval()
        return self

    def compute_logits(self, features: torch.Tensor) -> torch.Tensor:
        return self.head.compute_logits(features)


def fit(data: ClassifierData, val_ids: list[str], folder: Path, identity: str, label: str, fold: int) -> dict:
    """Train the step's model in `folder`, from its checkpoint where there is one; returns metrics."""
    member, device = data.member, select_device()
    seed_torch(data.seed, fold)
    model = build_classifier(member)
    if member.recalibrate:
        sample_ids, training = data.image_ids[: 16 * member.training.batch], member.training
        batches = load_in_order(sample_ids, data.load_inference_image, training.batch, training.workers)
        set_norm_statistics(model, (batch["image"] for batch in batches))
    validate = _build_validator(data, val_ids, device)
    return Trainer(
        model, data, _build_loss(member, device), member.training, folder, identity, device, validate, label
    ).fit()


def infer(data: ClassifierData, image_ids: list[str], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float32 [N] and bottleneck features float32 [N, D] of images under the model in `folder`."""
    model = Classifier(data.member)
    model.load_state_dict(load_weights(folder / "weights.safetensors"))
    with explain_out_of_memory(f"{folder.parent.name}, {folder.name}", data.member.training):
        return _run_inference(model, data, image_ids, select_device())


def check_network(member: ClassifierConfig) -> None:
    """Raise UsageError, the key first, where the network cannot be made or used, or its start weights do not fit."""
    model = Classifier(member).eval()
    _require_forward_pass(model, member)
    if not get_start_weights(member).is_random:
        _load_start_weights(Classifier(member), member)


@torch.inference_mode()
def _require_forward_pass(model: "Classifier", member: ClassifierConfig) -> None:
    """Without memory or arithmetic, on the meta device; on the CPU only what cannot be tried so."""
    for device_type in ("meta", "cpu"):
        try:
            side = member.view.inference_size
            model = model.to_empty(device="meta") if device_type == "meta" else Classifier(member).eval()
            model.compute_logits(model(torch.zeros(2, 1, side, side, dtype=torch.uint8, device=device_type)))
            return
        except Exception as error:  # backbones raise many kinds
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UsageError(
        f"backbone: {member.backbone} with head: {{kind: {member.head.kind}}} cannot take {side} x {side} images "
        f"({problem}); a convolutional one can, resnet34 or efficientnet_b4 say"
    )


def count_parameters(member: ClassifierConfig) -> int:
    """Numbers in all of the network's tensors, batch norm's statistics among them, as Keras counts."""
    model = Classifier(member.model_copy(update={"weights": RANDOM}))
    return sum(value.numel() for value in model.state_dict().values() if value.is_floating_point())


def build_classifier(member: ClassifierConfig) -> Classifier:
    """A classifier with its start weights; says in one line where they are from."""
    model = Classifier(member)
    if get_start_weights(member).is_random:
        return model
    head_share = _load_start_weights(model, member)
    start_description = describe_start(complete_member(member), get_start_weights(member), "backbone_args")
    print(f"start weights: {start_description} (backbone{', head' if head_share > 0.5 else ''})", flush=True)
    return model


def _load_start_weights(model: Classifier, member: ClassifierConfig) -> float:
    """Load the start weights into the backbone, and into the head as far as they fit: the share of it found."""
    tensors_by_part = read_parts(require_weights_file(get_start_weights(member)))
    backbone_share = load_fitting(model.backbone, tensors_by_part["encoder"])
    if backbone_share < get_start_weights(member).min_tensor_share:
        raise UsageError(
            f"weights: '{member.weights}' do not fit the backbone {member.backbone} ({backbone_share:.0%} found); "
            f"they would fit the network that they were trained with"
        )
    return load_fitting(model.head, tensors_by_part.get("head", {}))


def _build_tapped(member: ClassifierConfig) -> nn.Module:
    """The backbone up to the tap, under timm's own names."""
    try:
        strides = _create_backbone(member.backbone, features_only=True).feature_info.reduction()
        tap = strides.index(member.head.stride)
        options = {"features_only": True, "out_indices": (tap,), "in_chans": 1, "pretrained": False}
        return _truncate_at_tap(_create_backbone(member.backbone, **options, **member.backbone_args))
    except ValueError:
        stride = member.head.stride
        raise UsageError(f"head.stride: {member.backbone} has no stride {stride}; it has {strides}") from None
    except (RuntimeError, AttributeError, AssertionError) as error:
        advice = "head: {kind: pooled} needs no tap"
        raise UsageError(f"backbone: timm cannot tap '{member.backbone}' ({error}); {advice}") from None


def _build_whole(member: ClassifierConfig) -> nn.Module:
    """The backbone up to its last feature map, without timm's pooling and classifier."""
    options = {"num_classes": 0, "global_pool": "", "in_chans": 1, "pretrained": False}
    return _create_backbone(member.backbone, **options, **member.backbone_args)


def _create_backbone(backbone: str, **options) -> nn.Module:
    import timm

    try:
        return timm.create_model(backbone, **options)
    except RuntimeError as error:
        if backbone in timm.list_models():
            raise
        closest_names = difflib.get_close_matches(backbone, timm.list_models(), n=3) or ["resnet34", "efficientnet_b4"]
        raise UsageError(f"backbone: timm has no '{backbone}'; near it: {', '.join(closest_names)}") from error
    except TypeError as error:
        raise UsageError(f"backbone_args: {backbone} does not take them: {error}") from None


def _truncate_at_tap(backbone: nn.Module) -> nn.Module:
    """Drop the stages behind the tap where timm keeps them, and freeze what else does not reach it."""
    module = backbone.feature_info.module_name()[-1]
    if module.startswith("blocks.") and hasattr(backbone, "blocks"):
        backbone.blocks = backbone.blocks[: int(module.split(".")[1]) + 1]
    backbone.eval()(torch.zeros(1, 1, 64, 64))[-1].sum().backward()
    for parameter in backbone.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    return backbone.train()


def _build_loss(member: ClassifierConfig, device: torch.device):
    weight, smoothing = torch.tensor(member.positive_weight, device=device), member.label_smoothing

    def compute_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = model.compute_logits(model(batch["image"])).float()
        target = batch["label"] * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)

    return compute_loss


def _build_validator(data: ClassifierData, image_ids: list[str], device: torch.device):
    """A function model -> {'score'}: AUC of the validation images in a plain pass; minus log-loss of a single class."""
    labels = data.prepared.read_labels(image_ids) if image_ids else np.empty(0)
    if len(labels) == 0:
        return None

    def validate_model(model: nn.Module) -> dict[str, float]:
        prob, _ = _run_inference(model, data.without_tta, image_ids, device)
        auc_score = roc_auc(labels, prob)
        loss = float(F.binary_cross_entropy(torch.tensor(prob), torch.tensor(labels)))
        return {"score": -loss if auc_score is None else auc_score, "watched_loss": loss}

    return validate_model


def _run_inference(model: nn.Module, data: ClassifierData, image_ids: list[str], device: torch.device):
    """Means over the passes, and over the image and the mirrored image: of the logits, and of the features."""
    model.to(device, memory_format=torch.channels_last).eval()
    passes = [_run_pass(model, data, image_ids, device, number) for number in data.pass_numbers]
    logits, features = (np.mean(values, axis=0) for values in zip(*passes, strict=True))
    return (1 / (1 + np.exp(-logits))).astype(np.float32), features


@torch.inference_mode()
def _run_pass(model: nn.Module, data: ClassifierData, image_ids: list[str], device: torch.device, number: int):
    """Logits float32 [N] and features float32 [N, D] of one pass."""
    logits, features, training = [], [], data.member.training
    for batch in load_in_order(
        image_ids, partial(data.load_inference_image, number=number), 2 * training.batch, training.workers
    ):
        images = move_batch(batch, device)["image"]
        views = [images, images.flip(-1)] if data.member.hflip_tta else [images]
        with full_precision(device):
            view_features = [model(view) for view in views]
            logits.append(
                torch.stack([model.compute_logits(features_of_view) for features_of_view in view_features])
                .mean(0)
                .cpu()
                .numpy()
            )
        features.append(torch.stack(view_features).mean(0).cpu().numpy())
    return np.concatenate(logits), np.concatenate(features)
