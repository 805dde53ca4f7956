"""What TensorFlow computes in a training: gradients, a step of the optimizer, the average of the weights, an answer.

Eager where a training is short: tracing the graph of an EfficientNet-B4 takes as long as some eighty small steps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from cxr.training import Training
from stage1_classify.config import ClassifierConfig
from stage1_classify.keras_models import every_layer, parts
from stage1_classify.keras_optimizers import decay_in_gradient, optimizer

FEW = 20  # steps of a training, or batches of an inference, below which a graph does not pay


class Steps:
    """The computing half of a training, on every device of its strategy."""

    def __init__(
        self, model: keras.Model, member: ClassifierConfig, few: bool, devices: tf.distribute.Strategy
    ) -> None:
        self.model, self.member, self.devices = model, member, devices
        self.backbone, self.head = parts(model)
        with devices.scope():
            self.optimizer = optimizer(member.training)
            self.optimizer.build(self._learning(not member.freeze_backbone))
            ema = member.training.ema is not None
            self.average = [tf.Variable(w, trainable=False) for w in model.get_weights()] if ema else []
        self.seeded = [layer.seed_generator for layer in every_layer(model) if hasattr(layer, "seed_generator")]
        eager = few and devices.num_replicas_in_sync == 1
        graph: Callable = (lambda function: function) if eager else tf.function(reduce_retracing=True)
        self._gradients, self._apply, self._blend = graph(self._gradients), graph(self._apply), graph(self._blend)

    def gradients(self, batch: dict, size: int, learns: bool) -> tuple[float, list[tf.Tensor]]:
        """Loss, and the gradient of all that learns: the backbone too, or (learns: False) the head alone."""
        loss, *gradients = self._gradients(batch["image"], batch["label"], tf.constant(float(size)), learns)
        return float(loss), gradients

    def apply(self, gradients: list[tf.Tensor], learns: bool) -> None:
        """One step of the optimizer."""
        self._apply(gradients, learns)

    def seed(self, *key: int) -> None:
        """Seed every dropout by (seed, epoch, batch): a resumed training then drops the same."""
        values = np.random.SeedSequence(key).generate_state(2 * max(len(self.seeded), 1)).reshape(-1, 2)
        for generator, value in zip(self.seeded, values, strict=False):
            generator.state.assign(value)

    def blend(self, step: int) -> None:
        """Move the average towards the weights, with a warm-up as in timm's ModelEmaV3."""
        decay = min(self.member.training.ema, 1 - step ** (-2 / 3))
        self._blend(tf.constant(decay, tf.float32))

    def _learning(self, learns: bool) -> list:
        return (self.backbone.trainable_variables if learns else []) + self.head.trainable_variables

    def _gradients(self, image, label, size, learns: bool):
        """The loss's and gradients' sums over the devices."""
        found = self.devices.run(self._on_one_device, args=(image, label, size, learns))
        return tf.nest.map_structure(lambda value: self.devices.experimental_local_results(value)[0], found)

    def _on_one_device(self, image, label, size, learns: bool):
        with tf.GradientTape() as tape:
            found = self.head(self.backbone(image, training=learns), training=True)
            loss = tf.reduce_sum(losses(self.member, label, found["logit"][:, 0])) / size
        gradients = tape.gradient(loss, [v.value for v in self._learning(learns)], unconnected_gradients="zero")
        return tf.distribute.get_replica_context().all_reduce("sum", [loss, *gradients])

    def _apply(self, gradients: list[tf.Tensor], learns: bool) -> None:
        variables = self._learning(learns)
        self.optimizer.apply(shaped(gradients, variables, self.member.training), variables)

    def _blend(self, decay: tf.Tensor) -> None:
        for mean, weight in zip(self.average, self.model.weights, strict=True):
            mean.assign(mean * decay + weight.value * (1 - decay))


def losses(member: ClassifierConfig, label: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of each image: labels moved towards 1/2, positives counted positive_weight times."""
    target = label * (1 - member.label_smoothing) + member.label_smoothing / 2
    return tf.nn.weighted_cross_entropy_with_logits(target, logit, member.positive_weight)


def shaped(gradients: list[tf.Tensor], variables: list, training: Training) -> list[tf.Tensor]:
    """Gradients cut to clip_value and clip, with the weights' decay in them where it belongs there."""
    if training.clip_value:
        gradients = [tf.clip_by_value(each, -training.clip_value, training.clip_value) for each in gradients]
    if training.clip:
        gradients, _ = tf.clip_by_global_norm(gradients, training.clip)
    decay = decay_in_gradient(training)
    return [g + decay * v.value for g, v in zip(gradients, variables, strict=True)] if decay else gradients


def answers(model: keras.Model, few: bool) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A function: images uint8 [B, s, s, 1] -> logits float32 [B] and features float32 [B, D], computed in float32."""

    def answer(image):
        return model(image, training=False)

    computed = answer if few else tf.function(answer, reduce_retracing=True)

    def read(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with full_precision(model):
            found = computed(tf.constant(image))
        return found["logit"].numpy()[:, 0], found["features"].numpy()

    return read


@contextmanager
def full_precision(model: keras.Model) -> Iterator[None]:
    """Float32 in every layer, whatever the model trains in, and no TF32 on GPUs: what is kept depends on no machine."""
    layers, tf32 = list(every_layer(model)), tf.config.experimental.tensor_float_32_execution_enabled()
    policies, whole = [layer.dtype_policy for layer in layers], keras.DTypePolicy("float32")
    try:
        tf.config.experimental.enable_tensor_float_32_execution(False)
        for layer in layers:
            layer.dtype_policy = whole
        yield
    finally:
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
