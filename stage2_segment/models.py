"""The networks for one gray channel: U-Net and U-Net++ of segmentation-models-pytorch, with or without label head."""

from pathlib import Path

import torch
from torch import nn

from cxr.errors import UsageError
from cxr.torchkit.checkpoint import load_weights
from cxr.torchkit.heads import head
from cxr.torchkit.weights import load_fitting, parts
from cxr.weights import describe, find, settle
from stage2_segment.config import DEPTH, SegmenterConfig, start
from stage2_segment.fcn import Fcn


class Segmenter(nn.Module):
    """Gray images uint8 [B, 1, s, s] -> map logits [B, 1, s, s] and label logits [B] (None without a label head)."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        config = settle(config, start(config), "encoder_args")
        if None in (config.mean, config.std):
            find(start(config))  # which says what is missing
        self.mean, self.std = 255 * config.mean, 255 * config.std
        self.net = network(config)
        self.drop = nn.Dropout2d(0.0 if self.encoder is None else config.dropout)
        self.frozen, self.frozen_norm = config.freeze_encoder, config.freeze_norm
        self.head, self.tap = None, DEPTH
        if config.label_head:
            self._add_head(config)
        for module in [self.encoder] if self.frozen else self._norms if self.frozen_norm else []:
            module.requires_grad_(False)

    def _add_head(self, config: SegmenterConfig) -> None:
        chosen = config.label_head.head
        self.tap = chosen.stride.bit_length() - 1 if chosen.kind == "tap" else DEPTH
        self.head = head(self.encoder.out_channels[self.tap], config.view.size // 2**self.tap, chosen)

    @property
    def encoder(self) -> nn.Module | None:
        """smp's encoder; None in an FCN."""
        return getattr(self.net, "encoder", None)

    @property
    def backbone(self) -> nn.Module | None:
        """What the training loop freezes while the head trains alone, and whose layers it groups."""
        return getattr(self.encoder, "model", self.encoder)  # smp wraps timm's networks

    @property
    def unset_norm(self) -> bool:
        """Whether frozen batch norm has no statistics yet: of random weights, it would let all values grow."""
        return self.frozen_norm and not any(norm.running_mean.any() for norm in self._norms)

    @property
    def _norms(self) -> list[nn.Module]:
        return [module for module in self.encoder.modules() if isinstance(module, nn.BatchNorm2d)]

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        image = (image.float() - self.mean) / self.std
        if self.encoder is None:
            return self.net(image), None
        stages = self.net.encoder(image)
        logits = self.net.segmentation_head(self.drop(self.net.decoder(stages)))
        label = self.head.classify(self.head(stages[self.tap])) if self.head else None
        return logits, label

    def train(self, mode: bool = True) -> "Segmenter":
        """As nn.Module's, but what is frozen keeps its batch norm statistics too."""
        super().train(mode)
        for module in [self.encoder] if self.frozen else self._norms if self.frozen_norm else []:
            module.eval()
        return self


def build(config: SegmenterConfig, former: Path | None = None) -> Segmenter:
    """A segmenter with its start weights, or those of its former's training; says in one line where they are from."""
    if former:
        model = Segmenter(config)
        share = load_fitting(model, load_weights(former))
        print(f"start weights: {former.parent.parent.name}, {former.parent.name} ({share:.0%})", flush=True)
        return model
    model = Segmenter(config)
    if start(config).random:
        return model
    no_encoder(config)
    about = describe(settle(config, start(config), "encoder_args"), start(config), "encoder_args")
    print(f"start weights: {about} ({fill(model, config)})", flush=True)
    return model


def no_encoder(config: SegmenterConfig) -> None:
    """UsageError where start weights are asked for that no encoder can take."""
    if config.architecture == "fcn":
        raise UsageError(f"weights '{config.weights}': fcn has no encoder to take them; write `weights: random`")


def fill(model: Segmenter, config: SegmenterConfig) -> str:
    """Load the file `config.weights` where it fits; returns what was found, UsageError where too little fits."""
    found, prefix = parts(find(start(config))), "model." if config.encoder.startswith("tu-") else ""
    share = load_fitting(model.encoder, found["encoder"], prefix=prefix)
    if share < start(config).least:
        name, tensor = next(iter(model.encoder.state_dict().items()))
        raise UsageError(
            f"weights '{config.weights}' do not fit the encoder {config.encoder} ({share:.0%} found); "
            f"what fits holds {name.removeprefix(prefix)} of shape {list(tensor.shape)}, and so on"
        )
    decoder = load_fitting(model.net, found.get(f"decoder.{config.architecture}", {}))
    if model.head:
        load_fitting(model.head, found.get("head", {}))
    return f"encoder {share:.0%}{', decoder' if decoder else ''}"


def network(config: SegmenterConfig) -> nn.Module:
    """The bare network of a member; UsageError where the library cannot pair encoder and architecture."""
    if config.architecture == "fcn":
        return Fcn(config.decoder_channels[:-1], config.decoder_channels[-1], config.dropout)
    import segmentation_models_pytorch as smp

    kinds = {"unet": smp.Unet, "unetplusplus": smp.UnetPlusPlus}
    try:
        found = kinds[config.architecture](
            config.encoder, encoder_weights=None, in_channels=1,
            decoder_channels=config.decoder_channels, decoder_attention_type=config.attention, **config.encoder_args,
        )  # fmt: skip
    except (KeyError, ValueError, TypeError) as error:
        reason = str(error.args[0] if error.args else error).split(", supported encoders")[0]  # a list of a hundred
        raise UsageError(f"encoder '{config.encoder}' cannot be paired with {config.architecture}: {reason}") from None
    return _without_dead_weights(found)


def _without_dead_weights(found: nn.Module) -> nn.Module:
    """Take out what smp builds and never calls, so that the weights that are counted, stepped and kept are in use."""
    for name in ("_conv_head", "_bn1"):  # of its own EfficientNets
        if hasattr(found.encoder, name):
            setattr(found.encoder, name, nn.Identity())
    list(found.decoder.blocks.children())[-1].attention1 = nn.Identity()  # scSE of a skip that is not there
    return found


def parameters(config: SegmenterConfig) -> int:
    """All weights, batch norm's statistics among them as Keras counts, without the label head's."""
    with torch.device("meta"):
        found = network(config)
    return sum(value.numel() for value in found.state_dict().values() if value.is_floating_point())
