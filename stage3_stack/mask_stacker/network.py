"""The mask stacker's network: a small convolutional net over the members' maps and the image (rank-47 solution)."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from segmentation_models_pytorch.losses import DiceLoss
from torch import nn
from torch.nn import functional as F

from cxr.torchkit.device import full_precision, move_batch
from cxr.torchkit.loading import load_in_order
from stage3_stack.config import MaskStackerConfig
from stage3_stack.mask_stacker.data import MaskData

DICE = DiceLoss("binary", smooth=1.0)  # over the whole batch, so that empty masks count little in it


class MaskNet(nn.Module):
    """maps uint8 [B, members, s, s], image uint8 [B, 1, s, s] -> logits [B, 1, s, s].

    The last layer starts at zero, so that an untrained network predicts the members' mean map.
    """

    def __init__(self, members: int, settings: MaskStackerConfig) -> None:
        super().__init__()
        widths = [members + 1] + [settings.width] * settings.layers
        body = [(nn.Conv2d(*pair, 3, padding=1), nn.ReLU()) for pair in pairwise(widths)]
        self.body = nn.Sequential(*(layer for block in body for layer in block))
        self.last = nn.Conv2d(settings.width, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, maps: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        maps, image = maps.float() / 255, image.float() / 255
        mean = torch.logit(maps.mean(dim=1, keepdim=True), eps=1 / 510)  # half a level: 0 and 255 stay finite
        return mean + self.last(self.body(torch.cat([maps, image], dim=1)))


def bce_dice_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum of binary cross entropy and soft Dice loss of a batch: maps, image, mask as of `MaskData.sample`."""
    logits, mask = model(batch["maps"], batch["image"]).float(), batch["mask"].float()
    return F.binary_cross_entropy_with_logits(logits, mask) + DICE(logits, mask)


def predict_stacked_maps(
    nets: list[nn.Module], data: MaskData, image_ids: list[str], device: torch.device
) -> Iterator[np.ndarray]:
    """Stacked map of each image: the mean over the networks' probabilities.

    nets: the trained networks, which are moved to `device`
    data: where the inputs are loaded from, and the batch size
    image_ids: the images
    device: where to compute

    Yields uint8 [s, s], probability * 255, in the order of image_ids.
    """
    for net in nets:
        net.to(device, memory_format=torch.channels_last).eval()
    for batch in load_in_order(image_ids, data.load_inputs, 2 * data.stacker.batch, data.training.workers):
        yield from _predict_mean_maps(nets, move_batch(batch, device), device)


@torch.inference_mode()
def _predict_mean_maps(nets: list[nn.Module], batch: dict[str, torch.Tensor], device: torch.device) -> np.ndarray:
    with full_precision(device):
        logits = [net(batch["maps"], batch["image"])[:, 0] for net in nets]
    mean_prob = torch.stack([torch.sigmoid(net_logits) for net_logits in logits]).mean(dim=0)
    return (mean_prob * 255).round().to(torch.uint8).cpu().numpy()
