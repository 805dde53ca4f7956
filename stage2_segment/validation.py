"""The validation score of a segmenter in training: it chooses the epoch; no reported score uses these images."""

import numpy as np
import torch
from torch import nn

from evaluation.metrics import dice_of_areas
from stage2_segment.data import SegmenterData
from stage2_segment.inference import predict_maps

LEVELS = np.array([0.3, 0.5, 0.7])
MIN_AREAS = np.array([0.0, 0.001, 0.004])  # of the frame


def build_validation(data: SegmenterData, val_ids: list[str], device: torch.device):
    """A function model -> {score, positives_dice, positives_iou}; None without validation images.

    Each image is passed once, without test-time augmentation. score is the mean Kaggle Dice of all images, positive
    and negative, at the best pair of threshold and minimum area. A member that trains on positives only never learnt to
    leave an image empty, so its score is the mean Dice of the positives. The other two are means over the positives at
    the same threshold and minimum area; they are missing where there is no positive.
    """

    def score_model(model: nn.Module) -> dict[str, float]:
        areas = _measure_areas(model, data, val_ids, device)
        return score_areas(*areas, data.member.view.inference_size**2, data.member.sampling.positives_only)

    return score_model if val_ids else None


def _measure_areas(model: nn.Module, data: SegmenterData, image_ids: list[str], device: torch.device):
    """Areas in pixels: true [n], predicted [n, levels], overlap [n, levels]; only one map at a time is in memory."""
    rows, maps = [], predict_maps([model], data.without_tta, image_ids, device)
    for image_id, (prob_map, _prob) in zip(image_ids, maps, strict=True):
        true_mask = data.load_true_mask(image_id)
        masks = [prob_map > 255 * level for level in LEVELS]
        rows.append([true_mask.sum(), *(mask.sum() for mask in masks), *((mask & true_mask).sum() for mask in masks)])
    true_areas, predicted_areas, overlap_areas = np.split(np.array(rows), [1, 1 + len(LEVELS)], axis=1)
    return true_areas[:, 0], predicted_areas, overlap_areas


def score_areas(
    true_areas: np.ndarray,
    predicted_areas: np.ndarray,
    overlap_areas: np.ndarray,
    frame_pixels: int,
    positives_only: bool,
) -> dict:
    """The validation score at the best pair of threshold (LEVELS) and minimum area (MIN_AREAS).

    true_areas: pixels of each true mask [n]
    predicted_areas: pixels above each level [n, levels]
    overlap_areas: those inside the true mask [n, levels]
    frame_pixels: pixels of a map
    positives_only: choose by the positives, where there are any
    Returns {score, positives_dice, positives_iou}, 0 to 1; the last two only with positives. IoU = Dice / (2 - Dice).
    """
    is_kept = predicted_areas[..., None] >= MIN_AREAS * frame_pixels
    dices = dice_of_areas(
        true_areas[:, None, None], predicted_areas[..., None] * is_kept, overlap_areas[..., None] * is_kept
    )
    dices = dices.reshape(len(true_areas), -1)
    is_positive = true_areas > 0
    scored_dices = dices[is_positive] if positives_only and is_positive.any() else dices
    best_column = scored_dices.mean(0).argmax()
    metrics = {"score": float(scored_dices.mean(0)[best_column])}
    if is_positive.any():
        positive_dices = dices[is_positive, best_column]
        metrics["positives_dice"] = float(positive_dices.mean())
        metrics["positives_iou"] = float((positive_dices / (2 - positive_dices)).mean())
    return metrics
