"""The networks for one gray channel: U-Net and U-Net++ of segmentation-models-pytorch, with or without label head."""

from pathlib import Path

import torch
from torch import nn

from cxr.errors import UsageError
from cxr.torchkit.checkpoint import load_weights
from cxr.torchkit.heads import build_head
from cxr.torchkit.weights import load_fitting, read_parts
from cxr.training.start_weights import adopt_expected_input, describe_start, require_weights_file
from stage2_segment.config import SegmenterConfig, get_start_weights
from stage2_segment.fcn import Fcn
from stage2_segment.setting_conflicts import DEPTH


class Segmenter(nn.Module):
    """Gray images uint8 [B, 1, s, s] -> map logits [B, 1, s, s] and label logits [B] (None without a label head)."""

    def __init__(self, member: SegmenterConfig) -> None:
        super().__init__()
        member = adopt_expected_input(member, get_start_weights(member), "encoder_args")
        if None in (member.mean, member.std):
            require_weights_file(get_start_weights(member))  # its error names the missing file
        self.mean, self.std = 255 * member.mean, 255 * member.std
        self.net = build_network(member)
        self.drop = nn.Dropout2d(0.0 if self.encoder is None else member.dropout)
        self.freezes_encoder, self.freezes_norm = member.freeze_encoder, member.freeze_norm
        self.head, self.head_stage = None, DEPTH
        if member.label_head:
            self._add_head(member)
        for module in self._frozen_modules:
            module.requires_grad_(False)

    def _add_head(self, member: SegmenterConfig) -> None:
        head_settings = member.label_head.head
        self.head_stage = head_settings.stride.bit_length() - 1 if head_settings.kind == "tap" else DEPTH
        self.head = build_head(
            self.encoder.out_channels[self.head_stage], member.view.size // 2**self.head_stage, head_settings
        )

    @property
    def encoder(self) -> nn.Module | None:
        """smp's encoder; None in an FCN."""
        return getattr(self.net, "encoder", None)

    @property
    def backbone(self) -> nn.Module | None:
        """The part that training.head_first freezes and whose layers training.layer_decay groups."""
        return getattr(self.encoder, "model", self.encoder)  # smp wraps timm's networks

    @property
    def needs_norm_statistics(self) -> bool:
        """Whether frozen batch norm has no statistics yet: with random weights, activations would grow unchecked."""
        return self.freezes_norm and not any(norm.running_mean.any() for norm in self._norm_layers)

    @property
    def _norm_layers(self) -> list[nn.Module]:
        return [module for module in self.encoder.modules() if isinstance(module, nn.BatchNorm2d)]

    @property
    def _frozen_modules(self) -> list[nn.Module]:
        if self.freezes_encoder:
            return [self.encoder]
        return self._norm_layers if self.freezes_norm else []

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        image = (image.float() - self.mean) / self.std
        if self.encoder is None:
            return self.net(image), None
        stages = self.net.encoder(image)
        logits = self.net.segmentation_head(self.drop(self.net.decoder(stages)))
        label = self.head.compute_logits(self.head(stages[self.head_stage])) if self.head else None
        return logits, label

    def train(self, mode: bool = True) -> "Segmenter":
        """As nn.Module's, but frozen modules keep their batch norm statistics, too."""
        super().train(mode)
        for module in self._frozen_modules:
            module.eval()
        return self


def build_segmenter(member: SegmenterConfig, start_from: Path | None = None) -> Segmenter:
    """A segmenter with its start weights, or those in the file `start_from`; prints where they are from."""
    model = Segmenter(member)
    if start_from:
        share = load_fitting(model, load_weights(start_from))
        print(f"start weights: {start_from.parent.parent.name}, {start_from.parent.name} ({share:.0%})", flush=True)
        return model
    start = get_start_weights(member)
    if start.is_random:
        return model
    require_encoder(member)
    description = describe_start(adopt_expected_input(member, start, "encoder_args"), start, "encoder_args")
    print(f"start weights: {description} ({load_start_weights(model, member)})", flush=True)
    return model


def require_encoder(member: SegmenterConfig) -> None:
    """UsageError if start weights are set but the network has no encoder."""
    if member.architecture == "fcn":
        raise UsageError(f"weights '{member.weights}': fcn has no encoder to take them; write `weights: random`")


def load_start_weights(model: Segmenter, member: SegmenterConfig) -> str:
    """Load the file `member.weights`; returns which parts were loaded, UsageError where too few tensors fit."""
    tensors_by_part = read_parts(require_weights_file(get_start_weights(member)))
    prefix = "model." if member.encoder.startswith("tu-") else ""
    share = load_fitting(model.encoder, tensors_by_part["encoder"], prefix=prefix)
    if share < get_start_weights(member).min_tensor_share:
        name, tensor = next(iter(model.encoder.state_dict().items()))
        raise UsageError(
            f"weights '{member.weights}' do not fit the encoder {member.encoder} ({share:.0%} found); "
            f"what fits holds {name.removeprefix(prefix)} of shape {list(tensor.shape)}, and so on"
        )
    decoder = load_fitting(model.net, tensors_by_part.get(f"decoder.{member.architecture}", {}))
    if model.head:
        load_fitting(model.head, tensors_by_part.get("head", {}))
    return f"encoder {share:.0%}{', decoder' if decoder else ''}"


def build_network(member: SegmenterConfig) -> nn.Module:
    """The bare network of a member; UsageError where the library cannot pair encoder and architecture."""
    if member.architecture == "fcn":
        return Fcn(member.decoder_channels[:-1], member.decoder_channels[-1], member.dropout)
    import segmentation_models_pytorch as smp

    architectures = {"unet": smp.Unet, "unetplusplus": smp.UnetPlusPlus}
    try:
        model = architectures[member.architecture](
            member.encoder, encoder_weights=None, in_channels=1,
            decoder_channels=member.decoder_channels, decoder_attention_type=member.attention, **member.encoder_args,
        )  # fmt: skip
    except (KeyError, ValueError, TypeError) as error:
        reason = str(error.args[0] if error.args else error).split(", supported encoders")[0]  # a list of a hundred
        raise UsageError(f"encoder '{member.encoder}' cannot be paired with {member.architecture}: {reason}") from None
    return _remove_dead_weights(model)


def _remove_dead_weights(model: nn.Module) -> nn.Module:
    """Remove layers that smp builds but never calls, so that no unused weight is counted, stepped or stored."""
    for name in ("_conv_head", "_bn1"):  # of its own EfficientNets
        if hasattr(model.encoder, name):
            setattr(model.encoder, name, nn.Identity())
    list(model.decoder.blocks.children())[-1].attention1 = nn.Identity()  # scSE of a skip that is not there
    return model


def count_parameters(member: SegmenterConfig) -> int:
    """All weights, batch norm's statistics among them as Keras counts, without the label head's."""
    with torch.device("meta"):
        model = build_network(member)
    return sum(value.numel() for value in model.state_dict().values() if value.is_floating_point())
