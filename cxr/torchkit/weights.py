"""Start weights: a name looked up in the folder WEIGHTS, then in weights/ of the project, else asked of the hub.

A file holds either a backbone under timm's names (ImageNet), or a whole start with the prefixes
'encoder.', 'head.' and 'decoder.<architecture>.' (see weights/README.md).
"""

import os
from collections.abc import Callable, Iterable

import torch
from torch import nn

from cxr.errors import UsageError
from cxr.torchkit.checkpoint import load_weights
from cxr.weights import find


def parts(name: str) -> dict[str, dict[str, torch.Tensor]]:
    """Tensors of a weights file by part: 'encoder' always, others where the file has them."""
    tensors = load_weights(find(name))
    if not any(key.startswith("encoder.") for key in tensors):
        return {"encoder": tensors}
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        part, rest = key.split(".", 1)
        if part == "decoder":
            kind, rest = rest.split(".", 1)
            part = f"decoder.{kind}"
        found.setdefault(part, {})[rest] = value
    return found


def load_fitting(module: nn.Module, tensors: dict[str, torch.Tensor], prefix: str = "") -> float:
    """Load the tensors whose name and shape fit; returns the share of the module's tensors that were found.

    A first convolution for three channels serves one channel by the sum over its inputs.
    """
    own = module.state_dict()
    fitting = {}
    for key, value in tensors.items():
        target = own.get(prefix + key)
        if target is not None and target.ndim == 4 and target.shape[1] == 1 and value.shape[1] == 3:
            value = value.sum(1, keepdim=True)
        if target is not None and target.is_floating_point() and target.shape == value.shape:
            fitting[prefix + key] = value
    module.load_state_dict(fitting, strict=False)
    wanted = [key for key, value in own.items() if value.is_floating_point()]  # batch norm's counters are not weights
    return len(fitting) / max(len(wanted), 1)


def recalibrated(model: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Set batch norm's running statistics to those of `batches` (images uint8 [B, 1, s, s])."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over what follows
    model.train()
    with torch.inference_mode():
        for images in batches:
            model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def from_hub(make: Callable[[bool], nn.Module], backbone: str) -> nn.Module:
    """`make(pretrained=True)`, with ImageNet weights from the hub; offline it says so and starts from random ones."""
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "5")
    try:
        model = make(True)
    except UsageError:
        raise
    except Exception as error:  # the hub's clients raise many kinds
        print(f"ImageNet weights of {backbone} cannot be fetched ({type(error).__name__}): random start", flush=True)
        return make(False)
    print(f"start weights: ImageNet, from the hub ({backbone})", flush=True)
    return model
