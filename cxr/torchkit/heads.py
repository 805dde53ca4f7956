"""The classifier's head on a backbone's tap; stage 1 trains it, and a segmenter may carry it as its label head."""

import torch
from torch import nn

from cxr.training import HeadConfig


class TapHead(nn.Module):
    """Feature map [B, C, h, w] -> bottleneck features [B, width]; `classify` turns these into logits [B]."""

    def __init__(self, channels: int, config: HeadConfig) -> None:
        super().__init__()
        first, second, third = config.dropout
        self.body = nn.Sequential(
            nn.Dropout(first), *_block(channels, config.width), *_block(config.width, config.width), nn.Dropout(second)
        )
        self.pool = nn.AdaptiveMaxPool2d(1) if config.pool == "max" else nn.AdaptiveAvgPool2d(1)
        self.dense = nn.Sequential(nn.Dropout(third), nn.Linear(config.width, 1))

    def forward(self, tap: torch.Tensor) -> torch.Tensor:
        return self.pool(self.body(tap)).flatten(1)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return self.dense(features).squeeze(1)


def _block(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.LeakyReLU(0.1), nn.BatchNorm2d(width)
