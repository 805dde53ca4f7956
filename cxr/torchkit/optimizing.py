"""Optimizers with a rate for each group of layers, their schedules, and the average of the weights."""

import torch
from torch import nn

from cxr.schedule import Place, factor, momentum
from cxr.training import Training

KINDS = {
    "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "nadam": torch.optim.NAdam, "radam": torch.optim.RAdam,
    "sgd": torch.optim.SGD,
}  # fmt: skip


def optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimizer of all parameters that learn; each group keeps the rate that a schedule scales."""
    extra = {"momentum": 0.9} if training.optimizer == "sgd" else {}
    found = KINDS[training.optimizer](
        _groups(model, training), lr=training.lr, weight_decay=training.weight_decay, **extra
    )
    for group in found.param_groups:
        group["initial_lr"] = group["lr"]
    return found


def _groups(model: nn.Module, training: Training) -> list[dict]:
    """Parameters with their rates: layers of model.backbone, first to last, and all else at training.lr."""
    backbone = getattr(model, "backbone", None) if training.layer_decay < 1 else None
    layers = [] if backbone is None else [_learning(layer) for layer in _layers(backbone)]
    layers = [layer for layer in layers if layer]
    inner = {parameter for layer in layers for parameter in layer}
    groups = [{"params": [p for p in _learning(model) if p not in inner]}]
    for place, layer in enumerate(layers):
        groups.append({"params": layer, "lr": training.lr * training.layer_decay ** (1 - place / len(layers))})
    return groups


def _layers(backbone: nn.Module) -> list[nn.Module]:
    """The backbone's parts in their order, lists of blocks taken apart."""
    found = []
    for child in backbone.children():
        found += list(child.children()) if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
    return found


def _learning(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def plateau(found: torch.optim.Optimizer, training: Training):
    """The scheduler that lowers the rate when the watched score does not rise; None for other schedules."""
    if training.schedule != "plateau":
        return None
    how = {"factor": training.plateau_factor, "patience": training.plateau_patience, "min_lr": training.lr_min}
    return torch.optim.lr_scheduler.ReduceLROnPlateau(found, mode="max", **how)


def set_rate(found: torch.optim.Optimizer, training: Training, place: Place) -> None:
    """Set each group's rate, and momentum where the schedule moves it, to what it is at this place."""
    share, beta = factor(training, place), momentum(training, place)
    for group in found.param_groups:
        group["lr"] = group["initial_lr"] * share
        if beta is not None and "betas" in group:
            group["betas"] = (beta, *group["betas"][1:])
        elif beta is not None and "momentum" in group:
            group["momentum"] = beta


def average(model: nn.Module, training: Training):
    """The moving average of the weights, None where it is not asked for."""
    if training.ema is None:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(model, decay=training.ema, use_warmup=True)
