"""What stands on a backbone: bottleneck features, and one logit from these.

Stage 1 trains a head on its backbone; a segmenter may carry one as its label head.
"""

import torch
from torch import nn

from cxr.training.settings import HeadConfig


class Head(nn.Module):
    """Feature map [B, C, h, w] -> bottleneck features [B, D] by `body`; `compute_logits` gives logits [B]."""

    def __init__(self, body: nn.Module, features: int, dropout: float) -> None:
        super().__init__()
        self.body = body
        self.dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, 1))

    def forward(self, tap: torch.Tensor) -> torch.Tensor:
        return self.body(tap).flatten(1)

    def compute_logits(self, features: torch.Tensor) -> torch.Tensor:
        return self.dense(features).squeeze(1)


def build_head(channels: int, side: int, settings: HeadConfig) -> Head:
    """The head of a kind, on a map of `channels` that is `side` wide (which only a flat head depends on)."""
    input_dropout, pooling_dropout, final_dropout = settings.dropout
    width = {"tap": settings.width, "flat": settings.width, "pooled": channels}[settings.kind]
    pool = nn.AdaptiveMaxPool2d(1) if settings.pool == "max" else nn.AdaptiveAvgPool2d(1)
    bodies = {
        "tap": lambda: (
            nn.Dropout(input_dropout), *_conv_block(channels, width), *_conv_block(width, width),
            nn.Dropout(pooling_dropout), pool,
        ),
        "pooled": lambda: (pool,),
        "flat": lambda: (nn.Flatten(), nn.Linear(channels * side * side, width), nn.ReLU()),
    }  # fmt: skip
    return Head(nn.Sequential(*bodies[settings.kind]()), width, final_dropout)


def _conv_block(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.LeakyReLU(0.1), nn.BatchNorm2d(width)
