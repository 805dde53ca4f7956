"""Start weights of a Keras network: a .keras or .h5 file, read in safe mode; what the hub has, written as one."""

import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np

from cxr.errors import UsageError
from cxr.weights import Start, describe, find
from stage1_classify import config
from stage1_classify.config import ClassifierConfig
from stage1_classify.keras_models import backbone_of, every_layer, network, parts

Tensors = dict[str, list[np.ndarray]]


def start(member: ClassifierConfig) -> keras.Model:
    """A network with its start weights; says in one line where they are from."""
    wanted = config.start(member)
    if wanted.random:
        return network(member)
    path = find(wanted)
    stored, whole = read(path), backbone_of(member.backbone)
    model = network(member, whole)  # on the same layers, up to its tap
    loaded = load_fitting(list(every_layer(whole)), stored) + load_fitting(list(every_layer(parts(model)[1])), stored)
    backbone, head = (_share(part, loaded) for part in parts(model))
    if backbone < wanted.least:
        raise UsageError(
            f"weights: '{member.weights}' ({path.name}) do not fit the backbone {member.backbone}: "
            f"{backbone:.0%} of its tensors found"
        )
    and_head = ", head" if head > 0.5 else ""
    about = describe(config.settled(member), wanted, "backbone_args")
    print(f"start weights: {about} ({backbone:.0%} of the backbone{and_head})", flush=True)
    return model


def read(path: Path) -> Tensors:
    """The tensors of a file by layer; UsageError where it is no Keras file, or asks to run code (safe mode)."""
    try:
        if path.suffix == ".h5":
            return _from_hdf5(path)
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        return {layer.name: layer.get_weights() for layer in every_layer(model) if layer.weights}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(f"{path} cannot be read as Keras weights: {reason}") from None


def load_fitting(layers: list[keras.Layer], stored: Tensors) -> list[keras.Layer]:
    """Load what fits, by the layers' order where all of it does, else by their names; returns the layers loaded.

    Order first: keras.applications numbers some layers of Xception by what was built before them.
    """
    layers = [layer for layer in layers if layer.weights]
    values = list(stored.values())
    if len(values) != len(layers) or not all(_fits(*pair) for pair in zip(layers, values, strict=True)):
        values = [stored.get(layer.name, []) for layer in layers]
    fitting = [(layer, value) for layer, value in zip(layers, values, strict=True) if _fits(layer, value)]
    for layer, value in fitting:
        layer.set_weights(value)
    return [layer for layer, _ in fitting]


def _share(model: keras.Model, loaded: list[keras.Layer]) -> float:
    """Share of a model's tensors that are in layers that were loaded."""
    known = {id(layer) for layer in loaded}
    found = [len(layer.weights) * (id(layer) in known) for layer in every_layer(model)]
    return sum(found) / max(len(model.weights), 1)


def _fits(layer: keras.Layer, values: list[np.ndarray]) -> bool:
    return [tuple(weight.shape) for weight in layer.weights] == [value.shape for value in values]


def _from_hdf5(path: Path) -> Tensors:
    """A weights file, or a model file, of tf.keras or Keras: layers by name, each with its tensors in order."""
    with h5py.File(path, "r") as file:
        group = file.get("model_weights", file)
        layers = {name: group[name] for name in map(_text, group.attrs["layer_names"])}
        tensors = {
            name: [layer[_text(key)][()] for key in layer.attrs["weight_names"]] for name, layer in layers.items()
        }
    return {name: values for name, values in tensors.items() if values}


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def download(start: Start, path: Path) -> None:
    """Write the ImageNet weights that Keras's hub has of a backbone; raises whatever the download raises."""
    model = backbone_of(start.network, start.weights)
    with h5py.File(path, "w") as file:
        layers = [layer for layer in every_layer(model) if layer.weights]
        file.attrs["layer_names"] = [layer.name for layer in layers]
        for layer in layers:
            group, names = file.create_group(layer.name), [weight.name for weight in layer.weights]
            group.attrs["weight_names"] = names
            for name, value in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=value)
