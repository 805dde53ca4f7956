"""The training loop of Keras members: it does, keeps and writes what cxr.torchkit.loop does, keeps and writes."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from cxr.errors import UsageError
from cxr.files import write_atomically
from cxr.progress import ProgressLine
from cxr.training.training_state import (
    TrainingState,
    describe_nonfinite_loss,
    explain_out_of_memory,
    is_same_framework,
    report_progress,
    report_resume,
    summarize_training,
)
from stage1_classify.keras_members.checkpoint import TopCheckpoints, load_state, save_state
from stage1_classify.keras_members.device import default_strategy
from stage1_classify.keras_members.optimizers import Plateau, set_rate
from stage1_classify.keras_members.train_step import MIN_GRAPH_STEPS, TrainingOps

Validate = Callable[[], dict[str, float]]
VERSION = f"{tf.__version__} with Keras {keras.__version__}"


class Trainer:
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
        self.top_checkpoints = TopCheckpoints({"best": 1, "last": 0, "average": self.training.top}[self.training.keep])
        self.summed_gradients: list[tf.Tensor] = []
        self.state = TrainingState()

    def fit(self) -> dict:
        """Train to the end; the kept weights are in the model and in weights.keras. Returns metrics."""
        self._resume_training()
        with explain_out_of_memory(self.line.label, self.training):
            while not self.state.is_finished:
                self._train_epoch()
                self._close_epoch()
        self.model.set_weights(self.top_checkpoints.mean_weights or self._evaluated_weights())
        with write_atomically(self.folder / "weights.keras") as temporary:
            self.model.save(temporary)
        with write_atomically(self.folder / "history.csv") as temporary:
            pd.DataFrame(self.state.history).to_csv(temporary, index=False)
        return summarize_training(
            self.line, self.state, [entry["epoch"] for entry in self.top_checkpoints.epochs], self.validate is not None
        )

    @property
    def _backbone_learns(self) -> bool:
        """Whether the backbone learns in this epoch, or the head alone."""
        return not self.member.freeze_backbone and self.state.backbone_learns(self.training)

    def _train_epoch(self) -> None:
        batch_sizes = [len(ids) for ids in self.data.batches(self.state.epoch)]
        saved_at, batch_end = time.monotonic(), time.perf_counter()
        for batch in self.loader.load_epoch(self.state.epoch, first_batch=self.state.batch):
            wait_seconds = time.perf_counter() - batch_end
            self._train_batch(batch, batch_sizes)
            now = time.perf_counter()
            self.state.record_time(now - batch_end, wait_seconds)
            batch_end = now
            report_progress(self.line, self.state, self.training, len(batch_sizes))
            if not self.summed_gradients and time.monotonic() - saved_at > 60 * self.training.checkpoint_minutes:
                self._save_checkpoint()
                saved_at = time.monotonic()
            if self.state.spent_time_share(self.training) >= 1:
                break

    def _train_batch(self, batch: dict, batch_sizes: list[int]) -> None:
        self._set_rate(len(batch_sizes))
        self.ops.seed_dropouts(self.training.seed, self.state.epoch, self.state.batch)
        size = batch_sizes[self.state.batch]
        loss, gradients = self.ops.compute_gradients(batch, size, self._backbone_learns)
        if not np.isfinite(loss):
            raise UsageError(describe_nonfinite_loss(self.line, self.state, loss))
        self._add_gradients(gradients)
        self.state.record_batch(loss, size)
        if self.state.batch == len(batch_sizes) or self.state.batch % self.training.accumulate == 0:
            self._apply_gradients()

    def _set_rate(self, total: int) -> None:
        if self.plateau:
            self.ops.optimizer.learning_rate.assign(self.plateau.lr)
        else:
            set_rate(self.ops.optimizer, self.training, self.state.schedule_position(self.training, total))

    def _add_gradients(self, gradients: list[tf.Tensor]) -> None:
        scaled_gradients = (
            [gradient / self.training.accumulate for gradient in gradients]
            if self.training.accumulate > 1
            else gradients
        )
        self.summed_gradients = (
            [a + b for a, b in zip(self.summed_gradients, scaled_gradients, strict=True)]
            if self.summed_gradients
            else scaled_gradients
        )

    def _apply_gradients(self) -> None:
        self.ops.apply_gradients(self.summed_gradients, self._backbone_learns)
        self.summed_gradients = []
        self.state.step += 1
        if self.ops.average_weights:
            self.ops.update_average(self.state.step)

    def _evaluated_weights(self) -> list[np.ndarray]:
        """The weights that are validated and kept: the moving average where there is one."""
        return [variable.numpy() for variable in self.ops.average_weights] or self.model.get_weights()

    def _close_epoch(self) -> None:
        row = {"epoch": self.state.epoch + 1, "loss": self.state.mean_loss}
        row["lr"] = float(keras.ops.convert_to_numpy(self.ops.optimizer.learning_rate))
        if self.validate:
            row |= self._validate_weights()
            self._record_score(row["score"])
        elif self.training.keep == "average":
            self.top_checkpoints.add(
                self.state.epoch, float(self.state.epoch), self._evaluated_weights()
            )  # no validation: the last few
        self.summed_gradients = []
        self.state.close_epoch(row, self.training, self.validate is not None)
        self._save_checkpoint()

    def _validate_weights(self) -> dict[str, float]:
        """What validate says of the evaluated weights."""
        if not self.ops.average_weights:
            return self.validate()
        current_weights = self.model.get_weights()
        self.model.set_weights(self._evaluated_weights())
        val_metrics = self.validate()
        self.model.set_weights(current_weights)
        return val_metrics

    def _record_score(self, score: float) -> None:
        if self.plateau and self.state.backbone_learns(self.training):
            self.plateau.update_rate(score, self.training)
        self.state.record_score(score)
        if self.top_checkpoints.count:
            self.top_checkpoints.add(self.state.epoch, score, self._evaluated_weights())

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
