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
        self.down = nn.ModuleList(
            _build_down_block(in_channels, out_channels)
            for in_channels, out_channels in zip((1, *widths), widths, strict=False)
        )
        self.bridge = nn.Sequential(nn.Conv2d(widths[-1], bridge, 3, padding=1), nn.ReLU())
        skip_widths = widths[-2::-1]
        input_widths = (bridge, *(2 * width for width in skip_widths))
        self.up = nn.ModuleList(
            _build_up_block(in_channels, out_channels)
            for in_channels, out_channels in zip(input_widths, skip_widths, strict=False)
        )
        self.drop = nn.Dropout2d(dropout)
        self.last = nn.ConvTranspose2d(input_widths[-1], 1, 2, stride=2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        stages = [image]
        for down_block in self.down:
            stages.append(down_block(stages[-1]))
        features = self.bridge(stages.pop())
        for up_block in self.up:
            features = torch.cat([up_block(features), stages.pop()], 1)
        return self.last(self.drop(features))


def _build_down_block(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1), nn.ReLU())


def _build_up_block(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2), nn.ReLU())
