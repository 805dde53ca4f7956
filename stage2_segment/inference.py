"""Full-frame maps of images and the label head's probabilities, by one model or as the mean of several."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from cxr.torchkit.device import full_precision, move_batch
from cxr.torchkit.loading import load_in_order
from stage2_segment.data import SegmenterData

MapAndProb = tuple[np.ndarray, float]


def predict_maps(
    models: list[nn.Module], data: SegmenterData, image_ids: list[str], device: torch.device
) -> Iterator[MapAndProb]:
    """Yield, for each image in the given order, its full-frame map and the label head's probability.

    models: Segmenters, one for each fold, whose probabilities are averaged
    data: where the images are read from
    image_ids: which images
    device: where the models run; they are moved there
    Yields (uint8 [f, f], probability x 255, with f = view.inference_size; float 0 to 1, NaN without a label head).
    """
    for model in models:
        model.to(device, memory_format=torch.channels_last).eval()
    position = 0
    workers = data.member.training.workers
    for images in load_in_order(image_ids, data.load_inference_image, _choose_batch_size(data), workers):
        patches, probs = _average_probabilities(models, data, move_batch(images, device)["image"], device)
        for patch, prob in zip(patches, probs, strict=True):
            yield data.paste_into_frame(image_ids[position], patch), float(prob)
            position += 1


def _choose_batch_size(data: SegmenterData) -> int:
    """Images per batch of inference: twice the pixels of a training batch."""
    view = data.member.view
    return max(1, round(2 * data.member.training.batch * (view.size / view.inference_size) ** 2))


@torch.inference_mode()
def _average_probabilities(models, data: SegmenterData, images: torch.Tensor, device: torch.device):
    """Mean over models and, with TTA, over the mirrored image: uint8 [B, f, f], float [B]."""
    prob_sum, label_probs = torch.zeros_like(images[:, 0], dtype=torch.float32), []
    flips = [False, True] if data.member.hflip_tta else [False]
    for model in models:
        for is_flipped in flips:
            with full_precision(device):
                logits, label_logit = model(images.flip(-1) if is_flipped else images)
            logits = logits[:, 0]
            prob_sum += torch.sigmoid(logits.flip(-1) if is_flipped else logits)
            label_probs += [] if label_logit is None else [torch.sigmoid(label_logit).cpu()]
    prob_maps = (prob_sum / (len(models) * len(flips)) * 255).round().to(torch.uint8).cpu().numpy()
    return prob_maps, torch.stack(label_probs).mean(0).numpy() if label_probs else np.full(len(prob_maps), np.nan)
