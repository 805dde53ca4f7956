"""How well a segmenter in training does on the validation images: these choose epochs, nothing is scored on them."""

import numpy as np
import torch
from torch import nn

from evaluation.metrics import dice_of_areas
from stage2_segment.data import SegmenterData
from stage2_segment.inference import predict_maps

LEVELS = np.array([0.3, 0.5, 0.7])
MIN_AREAS = np.array([0.0, 0.001, 0.004])  # of the frame


def build_validation(data: SegmenterData, val_ids: list[str], device: torch.device):
    """A function model -> score, positives_dice, positives_iou; None without validation images.

    The images are passed once, without test-time passes. score is the Kaggle Dice of them all at their best threshold
    and least area: the metric that judges, with the images without a pneumothorax in it. A member that trains on
    positives alone never learnt to leave an image empty, so its score is the mean Dice of the positives. The other two
    are means over the positives at the score's threshold and area; missing where there is none.
    """

    def score_model(model: nn.Module) -> dict[str, float]:
        areas = _measure_areas(model, data, val_ids, device)
        return score_areas(*areas, data.member.view.inference_size**2, data.member.sampling.positives_only)

    return score_model if val_ids else None


def _measure_areas(model: nn.Module, data: SegmenterData, image_ids: list[str], device: torch.device):
    """Pixels, image by image, so that one map at a time is held: truth [n], found and overlap [n, levels]."""
    rows = []
    for image_id, (prob_map, _prob) in zip(
        image_ids, predict_maps([model], data.without_tta, image_ids, device), strict=True
    ):
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
    """score, positives_dice, positives_iou of pixel counts [n], [n, levels], [n, levels]; `frame_pixels`: of a map."""
    is_kept = predicted_areas[..., None] >= MIN_AREAS * frame_pixels
    dices = dice_of_areas(
        true_areas[:, None, None], predicted_areas[..., None] * is_kept, overlap_areas[..., None] * is_kept
    )
    dices = dices.reshape(len(true_areas), -1)
    positive = true_areas > 0
    scored_dices = dices[positive] if positives_only and positive.any() else dices
    best_column = scored_dices.mean(0).argmax()
    metrics = {"score": float(scored_dices.mean(0)[best_column])}
    if positive.any():
        positive_dices = dices[positive, best_column]
        metrics |= {
            "positives_dice": float(positive_dices.mean()),
            "positives_iou": float((positive_dices / (2 - positive_dices)).mean()),
        }
    return metrics
