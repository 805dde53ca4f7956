"""Grad-CAM of a timm classifier (Selvaraju et al., ICCV 2017), on the feature map that its head stands on."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cxr.errors import UsageError
from cxr.torchkit.checkpoint import load_weights
from cxr.torchkit.device import full_precision, move_batch, select_device
from cxr.torchkit.loading import load_in_order
from stage1_classify.data import ClassifierData
from stage1_classify.timm_members.network import Classifier

WEIGHTS = "weights.safetensors"
BATCH = 8


def compute_cams(data: ClassifierData, image_ids: list[str], weights: Path) -> np.ndarray:
    """Grad-CAM float32 [N, h, w] of what the member sees of each image; UsageError where the weights do not fit."""
    model, device = Classifier(data.member), select_device()
    try:
        model.load_state_dict(load_weights(weights))
    except RuntimeError:
        raise UsageError(f"{weights} is of other settings than the member's; train it anew") from None
    model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    batches = load_in_order(image_ids, data.load_inference_image, BATCH, workers=0)
    with full_precision(device):
        return np.concatenate([grad_cam(model, move_batch(batch, device)["image"]).cpu().numpy() for batch in batches])


def grad_cam(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """ReLU of the feature map's channels, weighted by the logit's mean gradient on each: [B, h, w].

    model: with `head` and `compute_logits`, as Classifier; images as it takes them [B, 1, s, s].
    """
    taps: list[torch.Tensor] = []

    def keep_tap(_head: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        taps.append(inputs[0].detach().float().requires_grad_())
        return (taps[0],)

    handle = model.head.register_forward_pre_hook(keep_tap)
    try:
        logits = model.compute_logits(model(images))
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(logits.sum(), taps[0])
    return F.relu((gradient.mean((2, 3), keepdim=True) * taps[0]).sum(1)).detach()
