"""Whether a timm member's network can be built and used, and whether its start weights fit; before any work."""

import torch

from cxr.errors import UsageError
from stage1_classify.config import ClassifierConfig, get_start_weights
from stage1_classify.timm_members.network import Classifier, load_start_weights


def check_network(member: ClassifierConfig) -> None:
    """Raise UsageError, the key first, where the network cannot be made or used, or its start weights do not fit."""
    model = Classifier(member).eval()
    _require_forward_pass(model, member)
    if not get_start_weights(member).is_random:
        load_start_weights(Classifier(member), member)


@torch.inference_mode()
def _require_forward_pass(model: Classifier, member: ClassifierConfig) -> None:
    """Try a forward pass on the meta device (no memory, no arithmetic), and on the CPU if that fails."""
    for device_type in ("meta", "cpu"):
        try:
            side = member.view.inference_size
            model = model.to_empty(device="meta") if device_type == "meta" else Classifier(member).eval()
            model.compute_logits(model(torch.zeros(2, 1, side, side, dtype=torch.uint8, device=device_type)))
            return
        except Exception as error:  # backbones raise many kinds
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UsageError(
        f"backbone: {member.backbone} with head: {{kind: {member.head.kind}}} cannot take {side} x {side} images "
        f"({problem}); a convolutional one can, resnet34 or efficientnet_b4 say"
    )
