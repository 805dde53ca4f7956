"""Start weights of a Keras network: a .keras or .h5 file, read in safe mode; what the hub has, written as one."""

import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np

from cxr.errors import UsageError
from cxr.training.start_weights import StartWeights, describe_start, require_weights_file
from stage1_classify import config
from stage1_classify.config import ClassifierConfig
from stage1_classify.keras_members.network import build_network, create_backbone, iterate_layers, split_network

Tensors = dict[str, list[np.ndarray]]


def build_classifier(member: ClassifierConfig) -> keras.Model:
    """A network with its start weights; says in one line where they are from."""
    start_weights = config.get_start_weights(member)
    if start_weights.is_random:
        return build_network(member)
    path = require_weights_file(start_weights)
    stored_tensors, full_backbone = read_keras_weights(path), create_backbone(member.backbone)
    model = build_network(member, full_backbone)  # on the same layers, up to its tap
    loaded_layers = load_fitting_layers(list(iterate_layers(full_backbone)), stored_tensors) + load_fitting_layers(
        list(iterate_layers(split_network(model)[1])), stored_tensors
    )
    backbone_share, head_share = (_loaded_share(part, loaded_layers) for part in split_network(model))
    if backbone_share < start_weights.min_tensor_share:
        raise UsageError(
            f"weights: '{member.weights}' ({path.name}) do not fit the backbone {member.backbone}: "
            f"{backbone_share:.0%} of its tensors found"
        )
    head_note = ", head" if head_share > 0.5 else ""
    start_description = describe_start(config.complete_member(member), start_weights, "backbone_args")
    print(f"start weights: {start_description} ({backbone_share:.0%} of the backbone{head_note})", flush=True)
    return model


def read_keras_weights(path: Path) -> Tensors:
    """The tensors of a file by layer; UsageError where it is no Keras file, or holds code to run (safe mode)."""
    try:
        if path.suffix == ".h5":
            return _read_hdf5(path)
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        return {layer.name: layer.get_weights() for layer in iterate_layers(model) if layer.weights}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(f"{path} cannot be read as Keras weights: {reason}") from None


def load_fitting_layers(layers: list[keras.Layer], stored_tensors: Tensors) -> list[keras.Layer]:
    """Load what fits, by the layers' order where all of it does, else by their names; returns the layers loaded.

    Order first: keras.applications numbers some layers of Xception by what was built before them.
    """
    layers = [layer for layer in layers if layer.weights]
    values = list(stored_tensors.values())
    if len(values) != len(layers) or not all(_fits_layer(*pair) for pair in zip(layers, values, strict=True)):
        values = [stored_tensors.get(layer.name, []) for layer in layers]
    fitting_pairs = [(layer, value) for layer, value in zip(layers, values, strict=True) if _fits_layer(layer, value)]
    for layer, value in fitting_pairs:
        layer.set_weights(value)
    return [layer for layer, _ in fitting_pairs]


def _loaded_share(model: keras.Model, loaded_layers: list[keras.Layer]) -> float:
    """Share of a model's tensors that are in layers that were loaded."""
    loaded_ids = {id(layer) for layer in loaded_layers}
    loaded_counts = [len(layer.weights) * (id(layer) in loaded_ids) for layer in iterate_layers(model)]
    return sum(loaded_counts) / max(len(model.weights), 1)


def _fits_layer(layer: keras.Layer, values: list[np.ndarray]) -> bool:
    return [tuple(weight.shape) for weight in layer.weights] == [value.shape for value in values]


def _read_hdf5(path: Path) -> Tensors:
    """A weights file, or a model file, of tf.keras or Keras: layers by name, each with its tensors in order."""
    with h5py.File(path, "r") as file:
        group = file.get("model_weights", file)
        layers = {name: group[name] for name in map(_decode_name, group.attrs["layer_names"])}
        tensors = {
            name: [layer[_decode_name(key)][()] for key in layer.attrs["weight_names"]]
            for name, layer in layers.items()
        }
    return {name: values for name, values in tensors.items() if values}


def _decode_name(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def download_weights(start: StartWeights, path: Path) -> None:
    """Write the ImageNet weights that Keras's hub has of a backbone; raises whatever the download raises."""
    model = create_backbone(start.network, start.weights)
    with h5py.File(path, "w") as file:
        layers = [layer for layer in iterate_layers(model) if layer.weights]
        file.attrs["layer_names"] = [layer.name for layer in layers]
        for layer in layers:
            group, names = file.create_group(layer.name), [weight.name for weight in layer.weights]
            group.attrs["weight_names"] = names
            for name, value in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=value)
