"""Full-frame maps of images, and what the label head says of them, by one model or the mean of several."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from cxr.torchkit.device import full_precision, move
from cxr.torchkit.loading import in_order
from stage2_segment.data import SegmenterData

Found = tuple[np.ndarray, float]


def maps(models: list[nn.Module], data: SegmenterData, image_ids: list[str], on: torch.device) -> Iterator[Found]:
    """Of each image, in the order given: probability map, uint8 [f, f] of the full frame; the label head's probability.

    f is view.largest; the probability is NaN without a label head.
    """
    for model in models:
        model.to(on, memory_format=torch.channels_last).eval()
    position = 0
    for images in in_order(image_ids, data.plain, _batch(data), data.member.training.workers):
        patches, probs = _probabilities(models, data, move(images, on)["image"], on)
        for patch, prob in zip(patches, probs, strict=True):
            yield data.full_frame(image_ids[position], patch), float(prob)
            position += 1


def _batch(data: SegmenterData) -> int:
    """Images at once: twice the pixels of a training batch."""
    view = data.member.view
    return max(1, round(2 * data.member.training.batch * (view.size / view.largest) ** 2))


@torch.inference_mode()
def _probabilities(models, data: SegmenterData, images: torch.Tensor, on: torch.device):
    """Mean over models and, with TTA, over the mirrored image: uint8 [B, f, f], float [B]."""
    total, labels = torch.zeros_like(images[:, 0], dtype=torch.float32), []
    views = [False, True] if data.member.hflip_tta else [False]
    for model in models:
        for flipped in views:
            with full_precision(on):
                logits, label = model(images.flip(-1) if flipped else images)
            logits = logits[:, 0]
            total += torch.sigmoid(logits.flip(-1) if flipped else logits)
            labels += [] if label is None else [torch.sigmoid(label).cpu()]
    found = (total / (len(models) * len(views)) * 255).round().to(torch.uint8).cpu().numpy()
    return found, torch.stack(labels).mean(0).numpy() if labels else np.full(len(found), np.nan)
