"""Optimizers with a rate for each group of layers, their schedules, and the average of the weights."""

import torch
from torch import nn

from cxr.training.schedule import SchedulePosition, lr_factor, scheduled_momentum
from cxr.training.settings import Training

OPTIMIZERS = {
    "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "nadam": torch.optim.NAdam, "radam": torch.optim.RAdam,
    "sgd": torch.optim.SGD,
}  # fmt: skip


def build_optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimizer of all parameters that learn; each group keeps the rate that a schedule scales."""
    extra_arguments = {"momentum": 0.9} if training.optimizer == "sgd" else {}
    optimizer = OPTIMIZERS[training.optimizer](
        _parameter_groups(model, training), lr=training.lr, weight_decay=training.weight_decay, **extra_arguments
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def _parameter_groups(model: nn.Module, training: Training) -> list[dict]:
    """Parameters with their rates: layers of model.backbone, first to last, and all else at training.lr."""
    backbone = getattr(model, "backbone", None) if training.layer_decay < 1 else None
    layers = [] if backbone is None else [_trainable_parameters(layer) for layer in _backbone_layers(backbone)]
    layers = [layer for layer in layers if layer]
    backbone_parameters = {parameter for layer in layers for parameter in layer}
    groups = [{"params": [p for p in _trainable_parameters(model) if p not in backbone_parameters]}]
    for index, layer in enumerate(layers):
        groups.append({"params": layer, "lr": training.lr * training.layer_decay ** (1 - index / len(layers))})
    return groups


def _backbone_layers(backbone: nn.Module) -> list[nn.Module]:
    """The backbone's parts in their order, lists of blocks taken apart."""
    layers = []
    for child in backbone.children():
        layers += list(child.children()) if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
    return layers


def _trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def build_plateau_scheduler(optimizer: torch.optim.Optimizer, training: Training):
    """The scheduler that lowers the rate when the watched score does not rise; None for other schedules."""
    if training.schedule != "plateau":
        return None
    options = {"factor": training.plateau_factor, "patience": training.plateau_patience, "min_lr": training.lr_min}
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", **options)


def set_group_rates(optimizer: torch.optim.Optimizer, training: Training, position: SchedulePosition) -> None:
    """Set each group's rate, and momentum where the schedule moves it, to what it is at this place."""
    rate_share, beta = lr_factor(training, position), scheduled_momentum(training, position)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * rate_share
        if beta is not None and "betas" in group:
            group["betas"] = (beta, *group["betas"][1:])
        elif beta is not None and "momentum" in group:
            group["momentum"] = beta


def build_ema(model: nn.Module, training: Training):
    """The moving average of the weights, None where it is not asked for."""
    if training.ema is None:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(model, decay=training.ema, use_warmup=True)
