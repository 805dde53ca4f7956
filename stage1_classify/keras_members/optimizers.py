"""Optimizers as PyTorch's (the same epsilon, the same meaning of weight_decay), and what moves their rate."""

from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import ops

from cxr.training.schedule import SchedulePosition, lr_factor, scheduled_momentum
from cxr.training.settings import Training

EPSILON = 1e-8  # PyTorch's; Keras takes 1e-7


class RAdam(keras.optimizers.Optimizer):
    """Rectified Adam (Liu et al., ICLR 2020): Adam, but plain momentum in the first few steps.

    These estimate the variance too poorly to divide by it.

    Keras 3 has none, and the packages that had one are of Keras 2.
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__(learning_rate, name="radam")
        self.beta_1, self.beta_2, self.epsilon = 0.9, 0.999, EPSILON

    def build(self, variables: list) -> None:
        if not self.built:
            super().build(variables)
            self._momentums, self._velocities = self.add_optimizer_variables(variables, ["momentum", "velocity"])

    def update_step(self, gradient, variable, learning_rate) -> None:
        """One step of RAdam on `variable` along `gradient` at `learning_rate`; called by Keras."""
        index = self._get_variable_index(variable)
        m, v, step = self._momentums[index], self._velocities[index], ops.cast(self.iterations + 1, variable.dtype)
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1 - self.beta_2))
        mean = m / (1 - ops.power(ops.cast(self.beta_1, variable.dtype), step))
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * mean * self._rectified_scale(v, step))

    def _rectified_scale(self, v, step):
        """1 / sqrt(v), rectified; 1 where the approximated length of the average (rho) is at most 5."""
        power = ops.power(ops.cast(self.beta_2, v.dtype), step)
        max_rho = 2 / (1 - self.beta_2) - 1
        rho = max_rho - 2 * step * power / (1 - power)
        safe_rho = ops.maximum(rho, 5.0)
        rectification = ops.sqrt((safe_rho - 4) * (safe_rho - 2) * max_rho / ((max_rho - 4) * (max_rho - 2) * safe_rho))
        return ops.where(rho > 5, rectification * ops.sqrt(1 - power) / (ops.sqrt(v) + self.epsilon), ops.ones_like(v))


def build_optimizer(training: Training) -> keras.optimizers.Optimizer:
    """The optimizer of a training; where the schedule moves the first beta, it is a variable."""
    constructors = {
        "adam": lambda lr: keras.optimizers.Adam(lr, epsilon=EPSILON),
        "adamw": lambda lr: keras.optimizers.AdamW(lr, weight_decay=training.weight_decay, epsilon=EPSILON),
        "nadam": lambda lr: keras.optimizers.Nadam(lr, epsilon=EPSILON),
        "radam": RAdam,
        "sgd": lambda lr: keras.optimizers.SGD(lr, momentum=0.9),
    }
    new_optimizer = constructors[training.optimizer](training.lr)
    if training.schedule == "onecycle":
        new_optimizer.beta_1 = tf.Variable(new_optimizer.beta_1, dtype="float32", trainable=False)
    return new_optimizer


def decay_in_gradient(training: Training) -> float:
    """PyTorch's weight_decay of all but AdamW: added to the gradient."""
    return 0.0 if training.optimizer == "adamw" else training.weight_decay


def set_rate(keras_optimizer: keras.optimizers.Optimizer, training: Training, position: SchedulePosition) -> None:
    """Set the rate, and the first beta where the schedule moves it, to its value at this position."""
    keras_optimizer.learning_rate.assign(training.lr * lr_factor(training, position))
    if scheduled_momentum(training, position) is not None:
        keras_optimizer.beta_1.assign(scheduled_momentum(training, position))


@dataclass
class Plateau:
    """Lowers the rate when the validation score does not rise, as PyTorch's ReduceLROnPlateau(mode='max')."""

    lr: float
    best: float = float("-inf")
    stale: int = 0

    def update_rate(self, score: float, training: Training) -> None:
        """After an epoch."""
        if score > self.best * (1 + 1e-4):  # PyTorch's threshold
            self.best, self.stale = score, 0
            return
        self.stale += 1
        if self.stale > training.plateau_patience:
            self.lr, self.stale = max(self.lr * training.plateau_factor, training.lr_min), 0
