"""The network of a timm member: a backbone, up to its tap or whole, and a head of cxr.torchkit.heads."""

import difflib

import torch
from torch import nn

from cxr.errors import UsageError
from cxr.torchkit.heads import build_head
from cxr.torchkit.weights import load_fitting, read_parts
from cxr.training.start_weights import RANDOM, describe_start, require_weights_file
from stage1_classify.config import ClassifierConfig, complete_member, get_start_weights


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


def build_classifier(member: ClassifierConfig) -> Classifier:
    """A classifier with its start weights; says in one line where they are from."""
    model = Classifier(member)
    if get_start_weights(member).is_random:
        return model
    head_share = load_start_weights(model, member)
    start_description = describe_start(complete_member(member), get_start_weights(member), "backbone_args")
    print(f"start weights: {start_description} (backbone{', head' if head_share > 0.5 else ''})", flush=True)
    return model


def load_start_weights(model: Classifier, member: ClassifierConfig) -> float:
    """Load the start weights into the backbone, and the head as far as they fit; returns the head's loaded share."""
    tensors_by_part = read_parts(require_weights_file(get_start_weights(member)))
    backbone_share = load_fitting(model.backbone, tensors_by_part["encoder"])
    if backbone_share < get_start_weights(member).min_tensor_share:
        raise UsageError(
            f"weights: '{member.weights}' do not fit the backbone {member.backbone} ({backbone_share:.0%} found); "
            f"they would fit the network that they were trained with"
        )
    return load_fitting(model.head, tensors_by_part.get("head", {}))


def count_parameters(member: ClassifierConfig) -> int:
    """Numbers in all of the network's tensors, batch norm's statistics among them, as Keras counts."""
    model = Classifier(member.model_copy(update={"weights": RANDOM}))
    return sum(value.numel() for value in model.state_dict().values() if value.is_floating_point())


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
    """Drop the stages behind the tap where timm keeps them, and freeze whatever else the tap does not depend on."""
    module = backbone.feature_info.module_name()[-1]
    if module.startswith("blocks.") and hasattr(backbone, "blocks"):
        backbone.blocks = backbone.blocks[: int(module.split(".")[1]) + 1]
    backbone.eval()(torch.zeros(1, 1, 64, 64))[-1].sum().backward()
    for parameter in backbone.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    return backbone.train()
