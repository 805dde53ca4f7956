"""What TensorFlow computes in a training: gradients, a step of the optimizer, the average of the weights, predictions.

Eager where a training is short: tracing the graph of an EfficientNet-B4 takes as long as some eighty small steps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from cxr.training.settings import Training
from stage1_classify.config import ClassifierConfig
from stage1_classify.keras_members.network import iterate_layers, split_network
from stage1_classify.keras_members.optimizers import build_optimizer, decay_in_gradient

MIN_GRAPH_STEPS = 20  # steps of a training, or batches of an inference, below which a graph does not pay


class TrainingOps:
    """The computing half of a training, on every device of its strategy."""

    def __init__(
        self, model: keras.Model, member: ClassifierConfig, is_short: bool, strategy: tf.distribute.Strategy
    ) -> None:
        self.model, self.member, self.strategy = model, member, strategy
        self.backbone, self.head = split_network(model)
        with strategy.scope():
            self.optimizer = build_optimizer(member.training)
            self.optimizer.build(self._trainable_variables(not member.freeze_backbone))
            has_ema = member.training.ema is not None
            self.average_weights = [tf.Variable(w, trainable=False) for w in model.get_weights()] if has_ema else []
        self.seed_generators = [
            layer.seed_generator for layer in iterate_layers(model) if hasattr(layer, "seed_generator")
        ]
        is_eager = is_short and strategy.num_replicas_in_sync == 1
        to_graph: Callable = (lambda function: function) if is_eager else tf.function(reduce_retracing=True)
        self._compute_on_all_devices, self._apply_on_all_devices, self._blend_average = (
            to_graph(self._compute_on_all_devices),
            to_graph(self._apply_on_all_devices),
            to_graph(self._blend_average),
        )

    def compute_gradients(self, batch: dict, size: int, backbone_learns: bool) -> tuple[float, list[tf.Tensor]]:
        """Loss, and the gradient of all that learns: the backbone too, or (backbone_learns: False) the head alone.

        batch: images, labels and weights of a batch, padded to a full one.
        size: images in it that count.
        """
        loss, *gradients = self._compute_on_all_devices(
            batch["image"], batch["label"], tf.constant(float(size)), backbone_learns
        )
        return float(loss), gradients

    def apply_gradients(self, gradients: list[tf.Tensor], backbone_learns: bool) -> None:
        """One step of the optimizer."""
        self._apply_on_all_devices(gradients, backbone_learns)

    def seed_dropouts(self, *key: int) -> None:
        """Seed every dropout by (seed, epoch, batch): a resumed training then drops the same."""
        values = np.random.SeedSequence(key).generate_state(2 * max(len(self.seed_generators), 1)).reshape(-1, 2)
        for generator, value in zip(self.seed_generators, values, strict=False):
            generator.state.assign(value)

    def update_average(self, step: int) -> None:
        """Move the average towards the weights, with a warm-up as in timm's ModelEmaV3."""
        decay = min(self.member.training.ema, 1 - step ** (-2 / 3))
        self._blend_average(tf.constant(decay, tf.float32))

    def _trainable_variables(self, backbone_learns: bool) -> list:
        return (self.backbone.trainable_variables if backbone_learns else []) + self.head.trainable_variables

    def _compute_on_all_devices(self, image, label, size, backbone_learns: bool):
        """The loss's and gradients' sums over the devices."""
        results = self.strategy.run(self._compute_on_one_device, args=(image, label, size, backbone_learns))
        return tf.nest.map_structure(lambda value: self.strategy.experimental_local_results(value)[0], results)

    def _compute_on_one_device(self, image, label, size, backbone_learns: bool):
        with tf.GradientTape() as tape:
            outputs = self.head(self.backbone(image, training=backbone_learns), training=True)
            loss = tf.reduce_sum(compute_losses(self.member, label, outputs["logit"][:, 0])) / size
        gradients = tape.gradient(
            loss, [v.value for v in self._trainable_variables(backbone_learns)], unconnected_gradients="zero"
        )
        return tf.distribute.get_replica_context().all_reduce("sum", [loss, *gradients])

    def _apply_on_all_devices(self, gradients: list[tf.Tensor], backbone_learns: bool) -> None:
        variables = self._trainable_variables(backbone_learns)
        self.optimizer.apply(clip_and_decay_gradients(gradients, variables, self.member.training), variables)

    def _blend_average(self, decay: tf.Tensor) -> None:
        for mean, weight in zip(self.average_weights, self.model.weights, strict=True):
            mean.assign(mean * decay + weight.value * (1 - decay))


def compute_losses(member: ClassifierConfig, label: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of each image: labels moved towards 1/2, positives counted positive_weight times."""
    target = label * (1 - member.label_smoothing) + member.label_smoothing / 2
    return tf.nn.weighted_cross_entropy_with_logits(target, logit, member.positive_weight)


def clip_and_decay_gradients(gradients: list[tf.Tensor], variables: list, training: Training) -> list[tf.Tensor]:
    """Gradients cut to clip_value and clip, with the weights' decay in them where it belongs there."""
    if training.clip_value:
        gradients = [tf.clip_by_value(gradient, -training.clip_value, training.clip_value) for gradient in gradients]
    if training.clip:
        gradients, _ = tf.clip_by_global_norm(gradients, training.clip)
    decay = decay_in_gradient(training)
    return [g + decay * v.value for g, v in zip(gradients, variables, strict=True)] if decay else gradients


def build_batch_predictor(model: keras.Model, is_short: bool) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A function: images uint8 [B, s, s, 1] -> logits float32 [B] and features float32 [B, D], computed in float32."""

    def run_network(image):
        return model(image, training=False)

    compute_outputs = run_network if is_short else tf.function(run_network, reduce_retracing=True)

    def predict_batch(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with full_precision(model):
            outputs = compute_outputs(tf.constant(image))
        return outputs["logit"].numpy()[:, 0], outputs["features"].numpy()

    return predict_batch


@contextmanager
def full_precision(model: keras.Model) -> Iterator[None]:
    """Float32 in every layer and no TF32 on GPUs, so that no kept file depends on the machine."""
    layers, tf32 = list(iterate_layers(model)), tf.config.experimental.tensor_float_32_execution_enabled()
    policies, float32_policy = [layer.dtype_policy for layer in layers], keras.DTypePolicy("float32")
    try:
        tf.config.experimental.enable_tensor_float_32_execution(False)
        for layer in layers:
            layer.dtype_policy = float32_policy
        yield
    finally:
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
