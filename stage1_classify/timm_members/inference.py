"""Inference of a timm member: probabilities and bottleneck features of images."""

from functools import partial

import numpy as np
import torch
from torch import nn

from cxr.torchkit.device import full_precision, move_batch
from cxr.torchkit.loading import load_in_order
from stage1_classify.data import ClassifierData


def predict_images(
    model: nn.Module, data: ClassifierData, image_ids: list[str], device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float32 [N] and bottleneck features float32 [N, D]: means over the passes and the mirrored image.

    model: a Classifier.
    data: the member's examples, which tell the test-time passes.
    image_ids: images, in the order wanted.
    device: that the model is moved to.
    """
    model.to(device, memory_format=torch.channels_last).eval()
    passes = [_run_pass(model, data, image_ids, device, number) for number in data.pass_numbers]
    logits, features = (np.mean(values, axis=0) for values in zip(*passes, strict=True))
    return (1 / (1 + np.exp(-logits))).astype(np.float32), features


@torch.inference_mode()
def _run_pass(model: nn.Module, data: ClassifierData, image_ids: list[str], device: torch.device, number: int):
    """Logits float32 [N] and features float32 [N, D] of one pass."""
    logits, features, training = [], [], data.member.training
    load_image = partial(data.load_inference_image, number=number)
    for batch in load_in_order(image_ids, load_image, 2 * training.batch, training.workers):
        images = move_batch(batch, device)["image"]
        views = [images, images.flip(-1)] if data.member.hflip_tta else [images]
        with full_precision(device):
            view_features = [model(view) for view in views]
            view_logits = [model.compute_logits(features_of_view) for features_of_view in view_features]
        logits.append(torch.stack(view_logits).mean(0).cpu().numpy())
        features.append(torch.stack(view_features).mean(0).cpu().numpy())
    return np.concatenate(logits), np.concatenate(features)
