"""Grad-CAM of a Keras classifier (Selvaraju et al., ICCV 2017), on the feature map that its head stands on."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cxr.errors import UsageError
from stage1_classify.data import ClassifierData
from stage1_classify.keras_members.device import configure_tensorflow
from stage1_classify.keras_members.loading import stack_channels_last
from stage1_classify.keras_members.network import build_network, split_network
from stage1_classify.keras_members.train_step import full_precision

WEIGHTS = "weights.keras"
BATCH = 8


def compute_cams(data: ClassifierData, image_ids: list[str], weights: Path) -> np.ndarray:
    """Grad-CAM float32 [N, h, w] of what the member sees of each image; UsageError where the weights do not fit."""
    configure_tensorflow()
    model = build_network(data.member)
    try:
        model.load_weights(weights)
    except ValueError:
        raise UsageError(f"{weights} is of other settings than the member's; train it anew") from None
    groups = [image_ids[first : first + BATCH] for first in range(0, len(image_ids), BATCH)]
    images = (stack_channels_last([data.load_inference_image(image_id)["image"] for image_id in ids]) for ids in groups)
    with full_precision(model):
        return np.concatenate([grad_cam(model, batch) for batch in images])


def grad_cam(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """ReLU of the feature map's channels, weighted by the logit's mean gradient on each: [B, h, w].

    model: of `network.build_network`; images uint8 [B, s, s, 1].
    """
    backbone, head = split_network(model)
    tap = tf.cast(backbone(images, training=False), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(tap)
        logit = head(tap, training=False)["logit"]
    weights = tf.reduce_mean(tape.gradient(logit, tap), axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * tap, axis=-1)).numpy()
