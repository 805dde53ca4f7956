"""Full-frame maps of images, by one model or the mean of several, and how well they score."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from cxr.metrics import dice
from cxr.torchkit.device import autocast, move
from cxr.torchkit.loading import in_order
from stage2_segment.data import SegmenterData

LEVELS = (0.3, 0.5, 0.7)
LEAST_AREAS = (0.0, 0.001, 0.004)  # of the frame


def maps(models: list[nn.Module], data: SegmenterData, image_ids: list[str], on: torch.device) -> Iterator[np.ndarray]:
    """Probability map of each image, uint8 [s, s] of the full frame, in the order given."""
    batch = 2 * data.member.training.batch
    for model in models:
        model.to(on, memory_format=torch.channels_last).eval()
    position = 0
    for images in in_order(image_ids, data.plain, batch):
        for patch in _probabilities(models, data, move(images, on)["image"], on):
            yield data.full_frame(image_ids[position], patch)
            position += 1


@torch.inference_mode()
def _probabilities(models, data: SegmenterData, images: torch.Tensor, on: torch.device) -> np.ndarray:
    """Mean over models and, with TTA, over the mirrored image: uint8 [B, s, s]."""
    total = torch.zeros_like(images[:, 0], dtype=torch.float32)
    views = [False, True] if data.member.hflip_tta else [False]
    for model in models:
        for flipped in views:
            with autocast(on, data.member.training.amp):
                logits, _ = model(images.flip(-1) if flipped else images)
            logits = logits[:, 0].float()
            total += torch.sigmoid(logits.flip(-1) if flipped else logits)
    return (total / (len(models) * len(views)) * 255).round().to(torch.uint8).cpu().numpy()


def watch(data: SegmenterData, image_ids: list[str], on: torch.device):
    """A function model -> {'score'}: the Kaggle Dice of all the watched images at their best threshold and area.

    It is the metric that judges, with the images without a pneumothorax in it; these patients choose
    epochs and nothing else is scored on them.
    """

    def score(model: nn.Module) -> dict[str, float]:
        found = list(maps([model], data, image_ids, on))
        truths = [data.truth(image_id) for image_id in image_ids]
        return {"score": max(_dice(truths, found, level, area) for level in LEVELS for area in LEAST_AREAS)}

    return score if image_ids else None


def _dice(truths: list[np.ndarray], found: list[np.ndarray], level: float, least: float) -> float:
    masks = [image > 255 * level for image in found]
    kept = [mask if mask.mean() >= least else np.zeros_like(mask) for mask in masks]
    return float(np.mean([dice(truth, mask) for truth, mask in zip(truths, kept, strict=True)]))
