"""The one training loop: mixed precision, accumulation, averaging, schedules, early stop, exact resume."""

import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from cxr.errors import UsageError
from cxr.files import write_atomically
from cxr.progress import ProgressLine
from cxr.torchkit import checkpoint, optimizers
from cxr.torchkit.device import amp_dtype, autocast, move_batch, seed_torch
from cxr.torchkit.loading import TrainingData, TrainingLoader
from cxr.torchkit.weight_selection import TopCheckpoints
from cxr.training.settings import Training
from cxr.training.training_state import (
    TrainingState,
    describe_nonfinite_loss,
    explain_out_of_memory,
    is_same_framework,
    report_progress,
    report_resume,
    summarize_training,
)

LossFunction = Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]
Validate = Callable[[nn.Module], dict[str, float]]


class Trainer:
    """Trains `model` on `data` in `folder`, from its checkpoint where an equal training was interrupted.

    `compute_loss(model, batch)` is a scalar; `validate(model)` gives metrics, 'score' among them (higher is better),
    on patients that are neither trained on nor scored.
    """

    def __init__(
        self, model: nn.Module, data: TrainingData, compute_loss: LossFunction, training: Training, folder: Path,
        identity: str, device: torch.device, validate: Validate | None = None, label: str = "",
    ) -> None:  # fmt: skip
        self.model = model.to(device, memory_format=torch.channels_last)
        self.data, self.compute_loss, self.validate, self.training = data, compute_loss, validate, training
        self.folder, self.identity, self.device = folder, identity, device
        self.line = ProgressLine(label or folder.name)
        self.optimizer = optimizers.build_optimizer(model, training)
        self.plateau = optimizers.build_plateau_scheduler(self.optimizer, training)
        self.scaler = torch.amp.GradScaler(device.type, enabled=training.amp and amp_dtype(device) == torch.float16)
        self.ema = optimizers.build_ema(model, training)
        self.top_checkpoints = TopCheckpoints({"best": 1, "last": 0, "average": training.top}[training.keep])
        backbone = getattr(model, "backbone", None)
        self.backbone_parameters = [p for p in backbone.parameters() if p.requires_grad] if backbone is not None else []
        self.state = TrainingState()

    @property
    def evaluated_model(self) -> nn.Module:
        """The network that is watched and kept: the moving average where there is one."""
        return self.ema.module if self.ema else self.model

    def fit(self) -> dict:
        """Train to the end; the kept weights are in the model and in weights.safetensors. Returns metrics."""
        self._resume_training()
        loader = TrainingLoader(self.data, self.training.workers)
        with explain_out_of_memory(self.line.label, self.training):
            while not self.state.is_finished:
                self._train_epoch(loader)
                self._close_epoch()
        self.evaluated_model.load_state_dict(self.top_checkpoints.mean_weights or self.evaluated_model.state_dict())
        self.model.load_state_dict(self.evaluated_model.state_dict())
        checkpoint.save_weights(self.folder / "weights.safetensors", self.model.state_dict())
        self._write_history()
        return summarize_training(
            self.line, self.state, [entry["epoch"] for entry in self.top_checkpoints.epochs], self.validate is not None
        )

    def _set_train_mode(self) -> None:
        """Dropout and batch norm as in training; the backbone learns, but not while the head trains alone."""
        backbone_learns = self.state.backbone_learns(self.training)
        self.model.train()
        for parameter in self.backbone_parameters:
            parameter.requires_grad_(backbone_learns)
        if self.backbone_parameters and not backbone_learns:
            self.model.backbone.eval()

    def _train_epoch(self, loader: TrainingLoader) -> None:
        self._set_train_mode()
        batches = loader.load_epoch(self.state.epoch, first_batch=self.state.batch)
        batch_count, saved_at, batch_end = (
            len(self.data.batches(self.state.epoch)),
            time.monotonic(),
            time.perf_counter(),
        )
        for batch in batches:
            wait_seconds = time.perf_counter() - batch_end
            self._train_batch(batch, batch_count)
            now = time.perf_counter()
            self.state.record_time(now - batch_end, wait_seconds)
            batch_end = now
            report_progress(self.line, self.state, self.training, batch_count)
            is_at_step = self.state.batch % self.training.accumulate == 0
            if is_at_step and time.monotonic() - saved_at > 60 * self.training.checkpoint_minutes:
                self._save_checkpoint()
                saved_at = time.monotonic()
            if self.state.spent_time_share(self.training) >= 1:
                break

    def _train_batch(self, batch: dict, batch_count: int) -> None:
        if self.training.schedule != "plateau":
            optimizers.set_group_rates(
                self.optimizer, self.training, self.state.schedule_position(self.training, batch_count)
            )
        seed_torch(self.training.seed, self.state.epoch, self.state.batch)
        with autocast(self.device, self.training.amp):
            loss = self.compute_loss(self.model, move_batch(batch, self.device))
        loss_value = float(loss.detach())
        if loss_value != loss_value or abs(loss_value) == float("inf"):
            raise UsageError(describe_nonfinite_loss(self.line, self.state, loss_value))
        self.scaler.scale(loss / self.training.accumulate).backward()
        self.state.record_batch(loss_value, len(next(iter(batch.values()))))
        if self.state.batch == batch_count or self.state.batch % self.training.accumulate == 0:
            self._apply_gradients()

    def _apply_gradients(self) -> None:
        if self.training.clip or self.training.clip_value:
            self._clip_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        if self.ema:
            self.ema.update(self.model, step=self.state.step)

    def _clip_gradients(self) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.training.clip_value:
            nn.utils.clip_grad_value_(self.model.parameters(), self.training.clip_value)
        if self.training.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)

    def _close_epoch(self) -> None:
        row = {"epoch": self.state.epoch + 1, "loss": self.state.mean_loss}
        row["lr"] = self.optimizer.param_groups[0]["lr"]
        if self.validate:
            self.evaluated_model.eval()
            row |= self.validate(self.evaluated_model)
            self._record_score(row["score"])
        elif self.training.keep == "average":
            score = float(self.state.epoch)  # no validation: the last few
            self.top_checkpoints.add(self.state.epoch, score, self.evaluated_model)
        self.state.close_epoch(row, self.training, self.validate is not None)
        self._save_checkpoint()

    def _record_score(self, score: float) -> None:
        if self.plateau and self.state.backbone_learns(self.training):
            self.plateau.step(score)
        self.state.record_score(score)
        if self.top_checkpoints.count:
            self.top_checkpoints.add(self.state.epoch, score, self.evaluated_model)

    def _save_checkpoint(self) -> None:
        parts = {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}
        state = {name: part.state_dict() for name, part in parts.items()} | {"identity": self.identity}
        state |= {"loop": vars(self.state), "kept": self.top_checkpoints.epochs}
        state["plateau"] = self.plateau.state_dict() if self.plateau else None
        state["average"] = self.ema.module.state_dict() if self.ema else None
        checkpoint.save_state(self.folder / "checkpoint.pt", state)

    def _resume_training(self) -> None:
        saved_state = checkpoint.load_state(self.folder / "checkpoint.pt", self.identity)
        if saved_state is None or not is_same_framework(
            self.line, "torch", saved_state.get("torch"), str(torch.__version__)
        ):
            return
        for name, part in {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}.items():
            part.load_state_dict(saved_state[name])
        if self.plateau:
            self.plateau.load_state_dict(saved_state["plateau"])
        if self.ema:
            self.ema.module.load_state_dict(saved_state["average"])
        self.top_checkpoints.epochs = saved_state["kept"]
        self.state = TrainingState(**saved_state["loop"])
        report_resume(self.line, self.state)

    def _write_history(self) -> None:
        with write_atomically(self.folder / "history.csv") as temporary:
            pd.DataFrame(self.state.history).to_csv(temporary, index=False)


def fit(*arguments, **named) -> dict:
    """Train a network to its end: see Trainer for the arguments, Trainer.fit for what it leaves."""
    return Trainer(*arguments, **named).fit()
