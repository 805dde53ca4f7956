"""Which settings of a segmenter contradict each other; check.py asks the libraries about the rest."""

from typing import TYPE_CHECKING

from cxr.training.start_weights import MISSING_WEIGHTS, RANDOM

if TYPE_CHECKING:
    from stage2_segment.config import SegmenterConfig

DEPTH = 5  # stages of an encoder: its last feature map is 1/32 of the image
SQUEEZE = 16  # scSE's bottleneck is this part of the channels


def find_conflicts(member: "SegmenterConfig") -> list[str]:
    """A message for each conflict, which begins with the key at fault."""
    conflicts = [*_find_network_conflicts(member), *_find_start_conflicts(member), *_find_view_conflicts(member)]
    if member.weights is None and not member.start_from:
        conflicts.append(MISSING_WEIGHTS)
    return conflicts


def _find_network_conflicts(member: "SegmenterConfig") -> list[str]:
    """Conflicts of architecture, encoder, decoder and attention."""
    return _find_fcn_conflicts(member) if member.architecture == "fcn" else _find_unet_conflicts(member)


def _find_fcn_conflicts(member: "SegmenterConfig") -> list[str]:
    encoder_keys = ("encoder", "encoder_args", "attention", "freeze_encoder", "freeze_norm", "label_head")
    conflicts = [
        f"{key}: fcn has no encoder; leave it out, or take unet" for key in encoder_keys if getattr(member, key)
    ]
    if member.weights not in (None, RANDOM):
        conflicts.append("weights: fcn has no encoder to take them; write `weights: random`, or take unet")
    if member.training.head_first or member.training.layer_decay != 1:
        conflicts.append("training.head_first, training.layer_decay: fcn has no encoder; leave them out")
    if "decoder_channels" not in member.model_fields_set or not 3 <= len(member.decoder_channels) <= DEPTH + 1:
        conflicts.append(
            "decoder_channels: fcn takes 2 to 5 stride-2 widths and the bridge's, as in [32, 64, 128, 128]"
        )
    return conflicts


def _find_unet_conflicts(member: "SegmenterConfig") -> list[str]:
    conflicts, channels = [], member.decoder_channels
    if not member.encoder:
        conflicts.append(f"encoder: {member.architecture} needs one, resnet34 or tu-efficientnet_b0 say; fcn has none")
    if len(channels) != DEPTH:
        conflicts.append(f"decoder_channels: {member.architecture} takes {DEPTH} numbers, not {len(channels)}")
    if member.attention and min(channels) < SQUEEZE:
        conflicts.append(f"decoder_channels: attention: scse needs at least {SQUEEZE} in each, not {min(channels)}")
    return conflicts


def _find_start_conflicts(member: "SegmenterConfig") -> list[str]:
    """Conflicts of start weights, frozen layers and losses."""
    conflicts = []
    if member.weights == "coco":
        conflicts.append("weights: coco's are a detector's; take imagenet, random or the name of a file")
    if member.start_from and member.weights:
        conflicts.append("weights: start_from brings the weights; leave one of them out")
    if not any((member.loss.bce, member.loss.dice, member.loss.log_dice, member.loss.focal)):
        conflicts.append("loss: every weight is 0, so nothing would be learnt; give bce, dice, log_dice or focal one")
    if member.recalibrate and member.freeze_encoder:
        conflicts.append("recalibrate: freeze_encoder keeps the start statistics; leave one of them out")
    if member.freeze_encoder and member.training.head_first:
        conflicts.append("training.head_first: freeze_encoder freezes it for good; leave one of them out")
    return conflicts


def _find_view_conflicts(member: "SegmenterConfig") -> list[str]:
    conflicts, view, label = [], member.view, member.label_head
    if label and label.head.kind == "tap" and label.head.stride not in [2**stage for stage in range(1, DEPTH + 1)]:
        conflicts.append(f"label_head.head.stride: 2, 4, 8, 16 or 32, not {label.head.stride}")
    if label and label.head.kind == "flat" and view.inference_size != view.size:
        conflicts.append("label_head.head.kind: flat needs images of one size, view.frame has two; take pooled or tap")
    return conflicts
