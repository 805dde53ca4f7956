"""What stands on a backbone: bottleneck features, and one logit from these.

Stage 1 trains a head on its backbone; a segmenter may carry one as its label head.
"""

import torch
from torch import nn

from cxr.training import HeadConfig


class Head(nn.Module):
    """Feature map [B, C, h, w] -> bottleneck features [B, D] by `body`; `classify` turns these into logits [B]."""

    def __init__(self, body: nn.Module, features: int, dropout: float) -> None:
        super().__init__()
        self.body = body
        self.dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, 1))

    def forward(self, tap: torch.Tensor) -> torch.Tensor:
        return self.body(tap).flatten(1)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return self.dense(features).squeeze(1)


def head(channels: int, side: int, config: HeadConfig) -> Head:
    """The head of a kind, on a map of `channels` that is `side` wide (which only a flat head depends on)."""
    first, second, third = config.dropout
    width = {"tap": config.width, "flat": config.width, "pooled": channels}[config.kind]
    pool = nn.AdaptiveMaxPool2d(1) if config.pool == "max" else nn.AdaptiveAvgPool2d(1)
    bodies = {
        "tap": lambda: (
            nn.Dropout(first), *_block(channels, width), *_block(width, width), nn.Dropout(second), pool
        ),
        "pooled": lambda: (pool,),
        "flat": lambda: (nn.Flatten(), nn.Linear(channels * side * side, width), nn.ReLU()),
    }  # fmt: skip
    return Head(nn.Sequential(*bodies[config.kind]()), width, third)


def _block(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.LeakyReLU(0.1), nn.BatchNorm2d(width)
