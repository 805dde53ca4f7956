"""How well a segmenter in training does on the watched images: these choose epochs, and nothing is scored on them."""

import numpy as np
import torch
from torch import nn

from cxr.metrics import dice_of_areas
from stage2_segment.data import SegmenterData
from stage2_segment.infer import maps

LEVELS = np.array([0.3, 0.5, 0.7])
LEAST_AREAS = np.array([0.0, 0.001, 0.004])  # of the frame


def watch(data: SegmenterData, image_ids: list[str], on: torch.device):
    """A function model -> score, positives_dice, positives_iou; None without images to watch.

    The images are passed once, without test-time passes. score is the Kaggle Dice of them all at their best threshold
    and least area: the metric that judges, with the images without a pneumothorax in it. A member that trains on
    positives alone never learnt to leave an image empty, so its score is the mean Dice of the positives. The other two
    are means over the positives at the score's threshold and area; missing where none is watched.
    """

    def score(model: nn.Module) -> dict[str, float]:
        areas = _areas(model, data, image_ids, on)
        return scores(*areas, data.member.view.largest**2, data.member.sampling.positives_only)

    return score if image_ids else None


def _areas(model: nn.Module, data: SegmenterData, image_ids: list[str], on: torch.device):
    """Pixels, image by image, so that one map at a time is held: truth [n], found and overlap [n, levels]."""
    rows = []
    for image_id, (found, _prob) in zip(image_ids, maps([model], data.without_tta, image_ids, on), strict=True):
        truth = data.truth(image_id)
        masks = [found > 255 * level for level in LEVELS]
        rows.append([truth.sum(), *(mask.sum() for mask in masks), *((mask & truth).sum() for mask in masks)])
    truth, found, overlap = np.split(np.array(rows), [1, 1 + len(LEVELS)], axis=1)
    return truth[:, 0], found, overlap


def scores(truth: np.ndarray, found: np.ndarray, overlap: np.ndarray, frame: int, positives_only: bool) -> dict:
    """score, positives_dice, positives_iou of pixel counts [n], [n, levels], [n, levels]; `frame`: pixels of a map."""
    kept = found[..., None] >= LEAST_AREAS * frame
    dices = dice_of_areas(truth[:, None, None], found[..., None] * kept, overlap[..., None] * kept)
    dices = dices.reshape(len(truth), -1)
    positive = truth > 0
    judged = dices[positive] if positives_only and positive.any() else dices
    best = judged.mean(0).argmax()
    metrics = {"score": float(judged.mean(0)[best])}
    if positive.any():
        hits = dices[positive, best]
        metrics |= {"positives_dice": float(hits.mean()), "positives_iou": float((hits / (2 - hits)).mean())}
    return metrics
