"""Classifiers in Keras: a backbone under its published names, and the heads of cxr.training.HeadConfig.

A network has two parts, models of their own so that the one can rest while the other trains:
'backbone' (gray images -> feature map) and 'head' (feature map -> bottleneck features, logit).
"""

from collections.abc import Iterator

import efficientnet.tfkeras as efficientnet
import keras
from keras import layers

from cxr.errors import UsageError
from cxr.training import HeadConfig
from stage1_classify.config import ClassifierConfig, settled


def network(member: ClassifierConfig, whole: keras.Model | None = None) -> keras.Model:
    """Gray images uint8 [B, s, s, 1] -> {'features': float32 [B, D], 'logit': float32 [B, 1]}.

    whole: the backbone with start weights; at random by default.
    """
    backbone = _backbone(member, whole or backbone_of(member.backbone))
    head = _head(backbone.output.shape[1:], member.head)
    image = keras.Input(backbone.input.shape[1:], dtype="uint8", name="image")
    return keras.Model(image, head(backbone(image)), name="classifier")


def backbone_of(name: str, weights: str | None = None) -> keras.Model:
    """The published network without its classifier, for three colours; weights: None or 'imagenet' (by the network)."""
    make = getattr(efficientnet, name, None) or getattr(keras.applications, name)
    return make(include_top=False, weights=weights, input_shape=(None, None, 3))


def parts(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The backbone and the head of a network."""
    return model.get_layer("backbone"), model.get_layer("head")


def every_layer(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers of a model, those of the models in it taken apart."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from every_layer(layer)
        else:
            yield layer


def _backbone(member: ClassifierConfig, whole: keras.Model) -> keras.Model:
    """Gray images uint8 [B, s, s, 1] -> feature map; the gray channel stands for all three colours."""
    member = settled(member)
    side = member.view.size if member.head.kind == "flat" else None
    image = keras.Input((side, side, 1), dtype="uint8", name="image")
    gray = layers.Rescaling(1 / (255 * member.std), -member.mean / member.std, dtype="float32", name="gray")(image)
    colours = layers.Concatenate(name="colours", dtype="float32")([gray, gray, gray])
    tap = _tap(whole, member) if member.head.kind == "tap" else whole.output
    return keras.Model(image, keras.Model(whole.input, tap, name=member.backbone)(colours), name="backbone")


def _tap(whole: keras.Model, member: ClassifierConfig) -> keras.KerasTensor:
    """Output of the deepest layer of the stride asked for."""
    strides = _strides(whole)
    fitting = [layer for layer, stride in strides.items() if stride == member.head.stride]
    if not fitting:
        have = sorted(set(strides.values()))
        raise UsageError(f"head.stride: {member.backbone} has no stride {member.head.stride}; it has {have}")
    return fitting[-1].output


def _strides(whole: keras.Model) -> dict[keras.Layer, int]:
    """By how much each layer's output is smaller than the image, in the order of the layers."""
    found: dict[keras.Layer, int] = {}
    for layer in whole.layers:
        inputs = keras.tree.flatten(layer.input) if not isinstance(layer, layers.InputLayer) else []
        before = max((found[tensor._keras_history.operation] for tensor in inputs), default=1)
        step = getattr(layer, "strides", 1)
        found[layer] = before * (step if isinstance(step, int) else step[0])
    return found


def _head(shape: tuple[int | None, ...], config: HeadConfig) -> keras.Model:
    """Feature map -> features and logit; the last layers are float32 in every precision."""
    tap = keras.Input(shape, name="map")
    x = {"tap": _convolved, "pooled": _pooled, "flat": _flattened}[config.kind](tap, config)
    features = layers.Activation("linear", dtype="float32", name="features")(x)
    dropped = layers.Dropout(config.dropout[2], dtype="float32", name="dropped")(features)
    logit = layers.Dense(1, dtype="float32", name="logit")(dropped)
    return keras.Model(tap, {"features": features, "logit": logit}, name="head")


def _convolved(x: keras.KerasTensor, config: HeadConfig) -> keras.KerasTensor:
    """The rank-47 solution's head."""
    x = layers.Dropout(config.dropout[0], name="dropped_map")(x)
    for number in (1, 2):
        x = layers.Conv2D(config.width, 3, padding="same", use_bias=False, name=f"head_conv{number}")(x)
        x = layers.LeakyReLU(negative_slope=0.1, name=f"head_relu{number}")(x)
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"head_bn{number}")(x)  # as PyTorch's
    return _pooled(layers.Dropout(config.dropout[1], name="dropped_conv")(x), config)


def _pooled(x: keras.KerasTensor, config: HeadConfig) -> keras.KerasTensor:
    pool = layers.GlobalMaxPooling2D if config.pool == "max" else layers.GlobalAveragePooling2D
    return pool(name="pool")(x)


def _flattened(x: keras.KerasTensor, config: HeadConfig) -> keras.KerasTensor:
    return layers.Dense(config.width, activation="relu", name="dense")(layers.Flatten(name="flat")(x))
