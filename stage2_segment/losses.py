"""The sum of losses that a segmenter trains by."""

import torch
from torch import nn
from torch.nn import functional as F

from stage2_segment.config import SegmenterConfig


class SegmenterLoss(nn.Module):
    """loss(model, batch) -> scalar; soft Dice is over the whole batch, so that empty masks count little in it.

    If all masks of a batch are empty, both losses of soft Dice are 0.
    """

    def __init__(self, member: SegmenterConfig) -> None:
        super().__init__()
        from segmentation_models_pytorch.losses import DiceLoss, FocalLoss

        settings = member.loss
        self.label_weight = member.label_head.weight if member.label_head else 0.0
        losses = {
            "bce": nn.BCEWithLogitsLoss(),
            "dice": DiceLoss("binary", smooth=1.0),
            "log_dice": DiceLoss("binary", log_loss=True, smooth=1.0),
            "focal": FocalLoss("binary", alpha=settings.focal_alpha, gamma=settings.focal_gamma),
        }
        self.terms = [(getattr(settings, name), loss) for name, loss in losses.items() if getattr(settings, name)]

    def forward(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits, label = model(batch["image"])
        logits, mask = logits.float(), batch["mask"].float()
        loss = sum(weight * term(logits, mask) for weight, term in self.terms)
        if label is not None and self.label_weight:
            loss = loss + self.label_weight * F.binary_cross_entropy_with_logits(label.float(), batch["label"])
        return loss
