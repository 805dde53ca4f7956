"""Start weights in PyTorch: loaded from a file of cxr.training.start_weights; what a hub has, written as such a file.

A file holds either a backbone under its library's names (ImageNet), or a whole start with the prefixes
'encoder.', 'head.' and 'decoder.<architecture>.' (see weights/README.md).
"""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from cxr.errors import UsageError
from cxr.torchkit.checkpoint import load_weights
from cxr.training.start_weights import StartWeights

WRAPPERS = ("", "model.", "body.")  # that timm puts before a backbone's names where it gives feature maps only


def read_parts(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Tensors of a weights file by part: 'encoder' always, others where the file has them."""
    tensors = read_tensors(path)
    if not any(key.startswith("encoder.") for key in tensors):
        return {"encoder": tensors}
    tensors_by_part: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        part, name = key.split(".", 1)
        if part == "decoder":
            architecture, name = name.split(".", 1)
            part = f"decoder.{architecture}"
        tensors_by_part.setdefault(part, {})[name] = value
    return tensors_by_part


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a file, half precision widened; UsageError where it is damaged."""
    try:
        return load_weights(path)
    except Exception as error:  # safetensors' own kinds
        raise UsageError(f"{path} cannot be read ({error}); get it anew (weights/README.md)") from None


def load_fitting(module: nn.Module, tensors: dict[str, torch.Tensor], prefix: str = "") -> float:
    """Load the tensors whose name and shape fit; returns the share of the module's tensors that were found.

    A first convolution for three channels serves one channel by the sum over its inputs.
    """
    fitting = _fitting_tensors(module, tensors, prefix)
    module.load_state_dict(fitting, strict=False)
    float_tensors = [
        value for value in module.state_dict().values() if value.is_floating_point()
    ]  # no batch norm's counters
    return len(fitting) / max(len(float_tensors), 1)


def _fitting_tensors(module: nn.Module, tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    state, fitting = module.state_dict(), {}
    for key, value in tensors.items():
        name = next((name for name in _candidate_names(prefix, key) if name in state), None)
        target = state.get(name)
        if target is not None and target.ndim == 4 and target.shape[1] == 1 and value.ndim == 4 and value.shape[1] == 3:
            value = value.sum(1, keepdim=True)
        if target is not None and target.is_floating_point() and target.shape == value.shape:
            fitting[name] = value
    return fitting


def _candidate_names(prefix: str, key: str) -> list[str]:
    """How a backbone's tensor may be called where timm gives feature maps: 'stages.0.x' is 'stages_0.x' in some."""
    return [prefix + wrapper + name for wrapper in WRAPPERS for name in (key, key.replace(".", "_", 1))]


def set_norm_statistics(model: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Set batch norm's running statistics to those of `batches` (images uint8 [B, 1, s, s])."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
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


def download_weights(start: StartWeights, path: Path) -> None:
    """Write the ImageNet weights that timm's or smp's hub has of a network: its tensors, and what it wants of images.

    UsageError where the library knows of none; else whatever the hub's client raises.
    """
    tensors, input_record = {"timm": _download_from_timm, "smp": _download_from_smp}[start.hub](start.network)
    save_start_weights(path, tensors, input_record)


def save_start_weights(path: Path, tensors: dict[str, torch.Tensor], input_record: dict) -> None:
    """Write tensors with what their network wants of its input, under one key: safetensors orders several at random."""
    copies = {key: value.detach().clone().contiguous() for key, value in tensors.items()}  # some share memory
    save_file(copies, path, metadata={"input": json.dumps(input_record)})


def _download_from_timm(name: str) -> tuple[dict[str, torch.Tensor], dict]:
    import timm

    if not timm.models.is_model_pretrained(name):
        pretrained_names = {pretrained_name.split(".")[0] for pretrained_name in timm.list_models(pretrained=True)}
        nearest_names = ", ".join(difflib.get_close_matches(name, pretrained_names, n=3)) or "others"
        raise UsageError(f"timm has no ImageNet weights of {name}; it has of {nearest_names}")
    model = timm.create_model(name, pretrained=True)
    pretrained_config = model.pretrained_cfg
    source = pretrained_config.get("hf_hub_id") or pretrained_config.get("url") or name
    return model.state_dict(), {
        "mean": _gray_mean(pretrained_config["mean"]),
        "std": _gray_mean(pretrained_config["std"]),
        "source": source,
    }


def _download_from_smp(name: str) -> tuple[dict[str, torch.Tensor], dict]:
    from segmentation_models_pytorch import encoders as smp

    if "imagenet" not in smp.encoders.get(name, {"pretrained_settings": ()})["pretrained_settings"]:
        raise UsageError(f"smp has no ImageNet weights of {name}, but random ones")
    tensors = smp.get_encoder(name, weights="imagenet").state_dict()
    preprocessing = smp.get_preprocessing_params(name, "imagenet")
    scale = max(preprocessing["input_range"])  # 255 of few
    source = smp.encoders[name]["pretrained_settings"]["imagenet"]["repo_id"]
    return tensors, {key: _gray_mean(preprocessing[key]) / scale for key in ("mean", "std")} | {"source": source}


def _gray_mean(colours: Iterable[float]) -> float:
    """The mean over the colours: the gray channel stands for all three."""
    values = list(colours)
    return round(sum(values) / len(values), 4)
