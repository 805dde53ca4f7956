"""The sum of losses that a segmenter trains by."""

import torch
from torch import nn
from torch.nn import functional as F

from stage2_segment.config import SegmenterConfig


class SegmenterLoss(nn.Module):
    """loss(model, batch) -> scalar; soft Dice is over the whole batch, so that empty masks count little in it."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        from segmentation_models_pytorch.losses import DiceLoss, FocalLoss

        self.weights = config.loss
        self.label_weight = config.label_head.weight if config.label_head else 0.0
        self.dice = DiceLoss("binary", smooth=1.0)
        self.focal = FocalLoss("binary", alpha=config.loss.focal_alpha, gamma=config.loss.focal_gamma)

    def forward(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits, label = model(batch["image"])
        logits, mask = logits.float(), batch["mask"].float()
        loss = self.weights.bce * F.binary_cross_entropy_with_logits(logits, mask)
        if self.weights.dice:
            loss = loss + self.weights.dice * self.dice(logits, mask)
        if self.weights.focal:
            loss = loss + self.weights.focal * self.focal(logits, mask)
        if label is not None and self.label_weight:
            loss = loss + self.label_weight * F.binary_cross_entropy_with_logits(label.float(), batch["label"])
        return loss
