"""The order of a training: epochs, batches, validation, checkpoints and closing, the same in PyTorch and in Keras."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from cxr.errors import UsageError
from cxr.files import write_atomically
from cxr.progress import ProgressLine
from cxr.training.schedule import SchedulePosition
from cxr.training.settings import Training
from cxr.training.training_state import (
    TrainingState,
    describe_nonfinite_loss,
    explain_out_of_memory,
    report_progress,
    summarize_training,
)


class TopCheckpoints(Protocol):
    """The weights of the best epochs so far."""

    count: int
    epochs: list[dict]

    def add(self, epoch: int, score: float, weights: Any) -> None:
        """Keep the `weights` of an `epoch` (from 0) if its `score` (higher is better) is among the best."""


class EpochLoop:
    """The order of epochs; a framework's trainer adds how a batch is learnt and what a checkpoint holds.

    A trainer sets the attributes below in its __init__ and overrides the methods that raise NotImplementedError.
    """

    data: Any
    """Gives the image ids of each batch: batches(epoch)."""
    training: Training
    folder: Path
    line: ProgressLine
    state: TrainingState
    top_checkpoints: TopCheckpoints
    plateau: Any = None
    """Lowers the rate where the validation score rests; None for other schedules."""
    validate: Callable[..., dict[str, float]] | None = None
    """Gives metrics of patients that are neither trained on nor scored: 'score' among them, higher is better."""

    def fit(self) -> dict:
        """Train to the end; the kept weights are in the model and in its file. Returns metrics for run.json."""
        self._resume_training()
        with explain_out_of_memory(self.line.label, self.training):
            while not self.state.is_finished:
                self._train_epoch()
                self._close_epoch()
        self._write_weights()
        with write_atomically(self.folder / "history.csv") as temporary:
            pd.DataFrame(self.state.history).to_csv(temporary, index=False)
        kept_epochs = [entry["epoch"] for entry in self.top_checkpoints.epochs]
        return summarize_training(self.line, self.state, kept_epochs, self.validate is not None)

    def _train_epoch(self) -> None:
        """Learn the epoch's batches from state.batch on; save a checkpoint every checkpoint_minutes, at a step."""
        self._start_epoch()
        batch_sizes = [len(ids) for ids in self.data.batches(self.state.epoch)]
        saved_at, batch_end = time.monotonic(), time.perf_counter()
        for batch in self._load_batches():
            wait_seconds = time.perf_counter() - batch_end
            self._train_batch(batch, batch_sizes)
            now = time.perf_counter()
            self.state.record_time(now - batch_end, wait_seconds)
            batch_end = now
            report_progress(self.line, self.state, self.training, len(batch_sizes))
            is_at_step = self.state.batch % self.training.accumulate == 0
            if is_at_step and time.monotonic() - saved_at > 60 * self.training.checkpoint_minutes:
                self._save_checkpoint()
                saved_at = time.monotonic()
            if self.state.spent_time_share(self.training) >= 1:
                break

    def _train_batch(self, batch: dict, batch_sizes: list[int]) -> None:
        """Set the rate, add the batch's gradients, and take a step every `accumulate` batches."""
        size = batch_sizes[self.state.batch]
        self._set_rate(self.state.schedule_position(self.training, len(batch_sizes)))
        self.state.record_batch(self._add_gradients(batch, size), size)
        if self.state.batch == len(batch_sizes) or self.state.batch % self.training.accumulate == 0:
            self._apply_gradients()
            self.state.step += 1
            self._update_average()

    def _close_epoch(self) -> None:
        """Validate, keep the weights if they are among the best, end the epoch, save a checkpoint."""
        row = {"epoch": self.state.epoch + 1, "loss": self.state.mean_loss, "lr": self._current_rate()}
        if self.validate:
            row |= self._validate_weights()
            self._record_score(row["score"])
        elif self.training.keep == "average":  # nothing is validated: the last few epochs
            self.top_checkpoints.add(self.state.epoch, float(self.state.epoch), self._select_weights())
        self.state.close_epoch(row, self.training, self.validate is not None)
        self._save_checkpoint()

    def _record_score(self, score: float) -> None:
        if self.plateau and self.state.backbone_learns(self.training):
            self._step_plateau(score)
        self.state.record_score(score)
        if self.top_checkpoints.count:
            self.top_checkpoints.add(self.state.epoch, score, self._select_weights())

    def _require_finite(self, loss: float) -> None:
        """Raise UsageError for a loss that is no number, before it spoils the weights."""
        if loss != loss or abs(loss) == float("inf"):
            raise UsageError(describe_nonfinite_loss(self.line, self.state, loss))

    def _resume_training(self) -> None:
        """Take up state, weights and optimizer of an equal training's checkpoint, where there is one."""
        raise NotImplementedError

    def _save_checkpoint(self) -> None:
        raise NotImplementedError

    def _start_epoch(self) -> None:
        """Bring the network into training mode."""
        raise NotImplementedError

    def _load_batches(self) -> Iterable[dict]:
        """The batches of the epoch from state.batch on."""
        raise NotImplementedError

    def _set_rate(self, position: SchedulePosition) -> None:
        raise NotImplementedError

    def _current_rate(self) -> float:
        raise NotImplementedError

    def _add_gradients(self, batch: dict, size: int) -> float:
        """Add a batch's gradients to those of the step; returns its loss."""
        raise NotImplementedError

    def _apply_gradients(self) -> None:
        raise NotImplementedError

    def _update_average(self) -> None:
        """Update the moving average of the weights, where there is one."""
        raise NotImplementedError

    def _step_plateau(self, score: float) -> None:
        raise NotImplementedError

    def _validate_weights(self) -> dict[str, float]:
        """The metrics of the weights that would be kept: the moving average, where there is one."""
        raise NotImplementedError

    def _select_weights(self) -> Any:
        """The weights that would be kept now, as top_checkpoints takes them."""
        raise NotImplementedError

    def _write_weights(self) -> None:
        """Put the kept weights into the model and write them."""
        raise NotImplementedError


def count_kept_epochs(training: Training) -> int:
    """How many epochs' weights are kept while training; 0: only the last ones."""
    return {"best": 1, "last": 0, "average": training.top}[training.keep]
