"""Classifiers in Keras: a backbone under its published names, and the heads of cxr.training.settings.HeadConfig.

A network has two parts, models of their own so that the one can rest while the other trains:
'backbone' (gray images -> feature map) and 'head' (feature map -> bottleneck features, logit).
"""

from collections.abc import Iterator

import efficientnet.tfkeras as efficientnet
import keras
from keras import layers

from cxr.errors import UsageError
from cxr.training.settings import HeadConfig
from stage1_classify.config import ClassifierConfig, complete_member


def build_network(member: ClassifierConfig, full_backbone: keras.Model | None = None) -> keras.Model:
    """Gray images uint8 [B, s, s, 1] -> {'features': float32 [B, D], 'logit': float32 [B, 1]}.

    full_backbone: the backbone with start weights; at random by default.
    """
    backbone = _build_backbone(member, full_backbone or create_backbone(member.backbone))
    head = _build_head(backbone.output.shape[1:], member.head)
    image = keras.Input(backbone.input.shape[1:], dtype="uint8", name="image")
    return keras.Model(image, head(backbone(image)), name="classifier")


def create_backbone(name: str, weights: str | None = None) -> keras.Model:
    """The published network without its classifier, for three colours; weights: None or 'imagenet' (by the network)."""
    constructor = getattr(efficientnet, name, None) or getattr(keras.applications, name)
    return constructor(include_top=False, weights=weights, input_shape=(None, None, 3))


def split_network(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The backbone and the head of a network."""
    return model.get_layer("backbone"), model.get_layer("head")


def iterate_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers of a model, those of the models in it taken apart."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from iterate_layers(layer)
        else:
            yield layer


def _build_backbone(member: ClassifierConfig, full_backbone: keras.Model) -> keras.Model:
    """Gray images uint8 [B, s, s, 1] -> feature map; the gray channel stands for all three colours."""
    member = complete_member(member)
    side = member.view.size if member.head.kind == "flat" else None
    image = keras.Input((side, side, 1), dtype="uint8", name="image")
    gray = layers.Rescaling(1 / (255 * member.std), -member.mean / member.std, dtype="float32", name="gray")(image)
    colours = layers.Concatenate(name="colours", dtype="float32")([gray, gray, gray])
    tap = _find_tap(full_backbone, member) if member.head.kind == "tap" else full_backbone.output
    return keras.Model(image, keras.Model(full_backbone.input, tap, name=member.backbone)(colours), name="backbone")


def _find_tap(full_backbone: keras.Model, member: ClassifierConfig) -> keras.KerasTensor:
    """Output of the deepest layer of the stride asked for."""
    strides = _layer_strides(full_backbone)
    fitting_layers = [layer for layer, stride in strides.items() if stride == member.head.stride]
    if not fitting_layers:
        available_strides = sorted(set(strides.values()))
        raise UsageError(
            f"head.stride: {member.backbone} has no stride {member.head.stride}; it has {available_strides}"
        )
    return fitting_layers[-1].output


def _layer_strides(full_backbone: keras.Model) -> dict[keras.Layer, int]:
    """By how much each layer's output is smaller than the image, in the order of the layers."""
    strides: dict[keras.Layer, int] = {}
    for layer in full_backbone.layers:
        inputs = keras.tree.flatten(layer.input) if not isinstance(layer, layers.InputLayer) else []
        input_stride = max((strides[tensor._keras_history.operation] for tensor in inputs), default=1)
        layer_stride = getattr(layer, "strides", 1)
        strides[layer] = input_stride * (layer_stride if isinstance(layer_stride, int) else layer_stride[0])
    return strides


def _build_head(shape: tuple[int | None, ...], head_settings: HeadConfig) -> keras.Model:
    """Feature map -> features and logit; the last layers are float32 in every precision."""
    tap = keras.Input(shape, name="map")
    x = {"tap": _convolve_map, "pooled": _pool_map, "flat": _flatten_map}[head_settings.kind](tap, head_settings)
    features = layers.Activation("linear", dtype="float32", name="features")(x)
    after_dropout = layers.Dropout(head_settings.dropout[2], dtype="float32", name="dropped")(features)
    logit = layers.Dense(1, dtype="float32", name="logit")(after_dropout)
    return keras.Model(tap, {"features": features, "logit": logit}, name="head")


def _convolve_map(x: keras.KerasTensor, head_settings: HeadConfig) -> keras.KerasTensor:
    """The rank-47 solution's head."""
    x = layers.Dropout(head_settings.dropout[0], name="dropped_map")(x)
    for number in (1, 2):
        x = layers.Conv2D(head_settings.width, 3, padding="same", use_bias=False, name=f"head_conv{number}")(x)
        x = layers.LeakyReLU(negative_slope=0.1, name=f"head_relu{number}")(x)
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"head_bn{number}")(x)  # as PyTorch's
    return _pool_map(layers.Dropout(head_settings.dropout[1], name="dropped_conv")(x), head_settings)


def _pool_map(x: keras.KerasTensor, head_settings: HeadConfig) -> keras.KerasTensor:
    pool = layers.GlobalMaxPooling2D if head_settings.pool == "max" else layers.GlobalAveragePooling2D
    return pool(name="pool")(x)


def _flatten_map(x: keras.KerasTensor, head_settings: HeadConfig) -> keras.KerasTensor:
    return layers.Dense(head_settings.width, activation="relu", name="dense")(layers.Flatten(name="flat")(x))
