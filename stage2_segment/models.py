"""U-Net and U-Net++ of segmentation-models-pytorch, for one gray channel, with an optional label head."""

import torch
from torch import nn

from cxr.errors import UsageError
from cxr.torchkit.heads import TapHead
from cxr.torchkit.weights import from_hub, load_fitting, parts
from stage2_segment.config import SegmenterConfig


class Segmenter(nn.Module):
    """Gray images uint8 [B, 1, s, s] -> map logits [B, 1, s, s] and label logits [B] (None without a label head)."""

    def __init__(self, config: SegmenterConfig, pretrained: bool = False) -> None:
        super().__init__()
        self.mean, self.std = 255 * config.mean, 255 * config.std
        self.net = _network(config, pretrained)
        self.drop = nn.Dropout2d(config.dropout)
        self.frozen = config.freeze_encoder
        self.head, self.tap = None, 0
        if config.label_head:
            self.tap = config.label_head.head.stride.bit_length() - 1
            self.head = TapHead(self.net.encoder.out_channels[self.tap], config.label_head.head)
        if self.frozen:
            self.net.encoder.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        stages = self.net.encoder((image.float() - self.mean) / self.std)
        logits = self.net.segmentation_head(self.drop(self.net.decoder(stages)))
        label = self.head.classify(self.head(stages[self.tap])) if self.head else None
        return logits, label

    def train(self, mode: bool = True) -> "Segmenter":
        """As nn.Module's, but a frozen encoder keeps its batch norm statistics too."""
        super().train(mode)
        if self.frozen:
            self.net.encoder.eval()
        return self


def build(config: SegmenterConfig) -> Segmenter:
    """A segmenter with its start weights; says in one line where they are from."""
    if config.weights is None:
        return Segmenter(config)
    if config.weights == "imagenet":
        return from_hub(lambda pretrained: Segmenter(config, pretrained), config.encoder)
    model, found = Segmenter(config), parts(config.weights)
    share = load_fitting(model.net.encoder, found["encoder"], prefix=_prefix(config))
    if share < 0.5:
        raise UsageError(f"weights '{config.weights}' do not fit the encoder {config.encoder} ({share:.0%} found)")
    decoder = load_fitting(model.net, found.get(f"decoder.{config.architecture}", {}))
    if model.head:
        load_fitting(model.head, found.get("head", {}))
    print(f"start weights: {config.weights} (encoder {share:.0%}{', decoder' if decoder else ''})", flush=True)
    return model


def _prefix(config: SegmenterConfig) -> str:
    return "model." if config.encoder.startswith("tu-") else ""


def _network(config: SegmenterConfig, pretrained: bool) -> nn.Module:
    import segmentation_models_pytorch as smp

    kinds = {"unet": smp.Unet, "unetplusplus": smp.UnetPlusPlus}
    try:
        return kinds[config.architecture](
            config.encoder, encoder_weights="imagenet" if pretrained else None, in_channels=1,
            decoder_channels=config.decoder_channels, **config.encoder_args,
        )  # fmt: skip
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(f"encoder '{config.encoder}' cannot be paired with {config.architecture}: {error}") from None
