"""The training of Keras members, on cxr.training.epoch_loop: it keeps and writes what cxr.torchkit.loop does."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cxr.files import write_atomically
from cxr.progress import ProgressLine
from cxr.training.epoch_loop import EpochLoop, count_kept_epochs
from cxr.training.schedule import SchedulePosition
from cxr.training.training_state import TrainingState, is_same_framework, report_resume
from stage1_classify.keras_members.checkpoint import TopCheckpoints, load_state, save_state
from stage1_classify.keras_members.device import default_strategy
from stage1_classify.keras_members.optimizers import Plateau, set_rate
from stage1_classify.keras_members.train_step import MIN_GRAPH_STEPS, TrainingOps

Validate = Callable[[], dict[str, float]]
VERSION = f"{tf.__version__} with Keras {keras.__version__}"


class Trainer(EpochLoop):
    """Trains `model` on the batches of `loader` in `folder`, from an equal but interrupted training's checkpoint.

    `validate()` gives metrics of the model as it stands, 'score' among them (higher is better), on patients that are
    neither trained on nor scored.
    """

    def __init__(
        self, model: keras.Model, data, loader, folder: Path, identity: str,
        validate: Validate | None = None, label: str = "", strategy: tf.distribute.Strategy | None = None,
    ) -> None:  # fmt: skip
        self.model, self.data, self.loader, self.validate = model, data, loader, validate
        self.member, self.training = data.member, data.member.training
        self.folder, self.identity, self.line = folder, identity, ProgressLine(label or folder.name)
        self.ops = TrainingOps(model, self.member, count_steps(data) < MIN_GRAPH_STEPS, strategy or default_strategy())
        self.plateau = Plateau(self.training.lr) if self.training.schedule == "plateau" else None
        self.top_checkpoints = TopCheckpoints(count_kept_epochs(self.training))
        self.summed_gradients: list[tf.Tensor] = []
        self.state = TrainingState()

    @property
    def _backbone_learns(self) -> bool:
        """Whether the backbone learns in this epoch, or the head alone."""
        return not self.member.freeze_backbone and self.state.backbone_learns(self.training)

    def _start_epoch(self) -> None:
        self.summed_gradients = []

    def _load_batches(self) -> Iterable[dict]:
        return self.loader.load_epoch(self.state.epoch, first_batch=self.state.batch)

    def _set_rate(self, position: SchedulePosition) -> None:
        if self.plateau:
            self.ops.optimizer.learning_rate.assign(self.plateau.lr)
        else:
            set_rate(self.ops.optimizer, self.training, position)

    def _current_rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self.ops.optimizer.learning_rate))

    def _add_gradients(self, batch: dict, size: int) -> float:
        self.ops.seed_dropouts(self.training.seed, self.state.epoch, self.state.batch)
        loss, gradients = self.ops.compute_gradients(batch, size, self._backbone_learns)
        self._require_finite(loss)
        if self.training.accumulate > 1:
            gradients = [gradient / self.training.accumulate for gradient in gradients]
        if self.summed_gradients:
            gradients = [a + b for a, b in zip(self.summed_gradients, gradients, strict=True)]
        self.summed_gradients = gradients
        return loss

    def _apply_gradients(self) -> None:
        self.ops.apply_gradients(self.summed_gradients, self._backbone_learns)
        self.summed_gradients = []

    def _update_average(self) -> None:
        if self.ops.average_weights:
            self.ops.update_average(self.state.step)

    def _step_plateau(self, score: float) -> None:
        self.plateau.update_rate(score, self.training)

    def _select_weights(self) -> list[np.ndarray]:
        """The weights that are validated and kept: the moving average where there is one."""
        return [variable.numpy() for variable in self.ops.average_weights] or self.model.get_weights()

    def _validate_weights(self) -> dict[str, float]:
        """Metrics of the evaluated weights."""
        if not self.ops.average_weights:
            return self.validate()
        current_weights = self.model.get_weights()
        self.model.set_weights(self._select_weights())
        val_metrics = self.validate()
        self.model.set_weights(current_weights)
        return val_metrics

    def _write_weights(self) -> None:
        self.model.set_weights(self.top_checkpoints.mean_weights or self._select_weights())
        with write_atomically(self.folder / "weights.keras") as temporary:
            self.model.save(temporary)

    def _save_checkpoint(self) -> None:
        arrays = {
            "model": self.model.get_weights(),
            "average": [variable.numpy() for variable in self.ops.average_weights],
        }
        arrays["optimizer"] = [keras.ops.convert_to_numpy(variable) for variable in self.ops.optimizer.variables]
        arrays |= {f"kept{epoch}": weights for epoch, weights in self.top_checkpoints.weights.items()}
        plateau = asdict(self.plateau) if self.plateau else None
        state = {
            "identity": self.identity,
            "loop": asdict(self.state),
            "kept": self.top_checkpoints.epochs,
            "plateau": plateau,
        }
        state["tensorflow"] = VERSION
        save_state(self.folder / "checkpoint.npz", arrays, state)

    def _resume_training(self) -> None:
        saved_state = load_state(self.folder / "checkpoint.npz", self.identity)
        if saved_state is None or not is_same_framework(
            self.line, "TensorFlow", saved_state[1].get("tensorflow"), VERSION
        ):
            return
        arrays, state = saved_state
        self.model.set_weights(arrays["model"])
        for variables, values in (
            (self.ops.optimizer.variables, arrays["optimizer"]), (self.ops.average_weights, arrays.get("average", []))
        ):  # fmt: skip
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        self.top_checkpoints.epochs = state["kept"]
        self.top_checkpoints.weights = {
            entry["epoch"]: arrays[f"kept{entry['epoch']}"] for entry in self.top_checkpoints.epochs
        }
        self.plateau = Plateau(**state["plateau"]) if state["plateau"] else None
        self.state = TrainingState(**state["loop"])
        report_resume(self.line, self.state)


def count_steps(data) -> int:
    """Batches of a whole training, as its first epoch has them."""
    return len(data.batches(0)) * data.member.training.epochs
