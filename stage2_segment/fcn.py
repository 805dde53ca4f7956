"""The small fully convolutional network of prasadsawant: no encoder from elsewhere, trained from random weights."""

import torch
from torch import nn


class Fcn(nn.Module):
    """Images float [B, 1, s, s] -> map logits [B, 1, s, s]; s is a multiple of 2 to the number of `widths`.

    Stride-2 convolutions of `widths`, a 3x3 bridge, transposed convolutions back with skips; published with
    widths 32, 64, 128 and a bridge of 128.
    """

    def __init__(self, widths: tuple[int, ...], bridge: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.down = nn.ModuleList(_halve(low, high) for low, high in zip((1, *widths), widths, strict=False))
        self.bridge = nn.Sequential(nn.Conv2d(widths[-1], bridge, 3, padding=1), nn.ReLU())
        skips = widths[-2::-1]
        below = (bridge, *(2 * width for width in skips))
        self.up = nn.ModuleList(_double(low, high) for low, high in zip(below, skips, strict=False))
        self.drop = nn.Dropout2d(dropout)
        self.last = nn.ConvTranspose2d(below[-1], 1, 2, stride=2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        stages = [image]
        for halve in self.down:
            stages.append(halve(stages[-1]))
        found = self.bridge(stages.pop())
        for double in self.up:
            found = torch.cat([double(found), stages.pop()], 1)
        return self.last(self.drop(found))


def _halve(low: int, high: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(low, high, 3, stride=2, padding=1), nn.ReLU())


def _double(low: int, high: int) -> nn.Module:
    return nn.Sequential(nn.ConvTranspose2d(low, high, 2, stride=2), nn.ReLU())
