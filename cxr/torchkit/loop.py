"""The one training loop: mixed precision, accumulation, averaging, schedules, early stop, exact resume."""

import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from cxr.course import State, explain_memory, goes_on, metrics, not_finite, report, same_framework
from cxr.errors import UsageError
from cxr.files import replacing
from cxr.progress import Line
from cxr.torchkit import checkpoint, optimizing
from cxr.torchkit.device import amp_dtype, autocast, move, seed
from cxr.torchkit.keeping import Kept
from cxr.torchkit.loading import Loader, TrainingData
from cxr.training import Training

Loss = Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]
Watch = Callable[[nn.Module], dict[str, float]]


class Trainer:
    """Trains `model` on `data` in `folder`, from its checkpoint where an equal training was interrupted.

    `loss(model, batch)` is a scalar; `watch(model)` gives metrics, 'score' among them (higher is better),
    on patients that are neither trained on nor scored.
    """

    def __init__(
        self, model: nn.Module, data: TrainingData, loss: Loss, training: Training, folder: Path,
        identity: str, on: torch.device, watch: Watch | None = None, label: str = "",
    ) -> None:  # fmt: skip
        self.model = model.to(on, memory_format=torch.channels_last)
        self.data, self.loss, self.watch, self.training = data, loss, watch, training
        self.folder, self.identity, self.on = folder, identity, on
        self.line = Line(label or folder.name)
        self.optimizer = optimizing.optimizer(model, training)
        self.plateau = optimizing.plateau(self.optimizer, training)
        self.scaler = torch.amp.GradScaler(on.type, enabled=training.amp and amp_dtype(on) == torch.float16)
        self.average = optimizing.average(model, training)
        self.kept = Kept({"best": 1, "last": 0, "average": training.top}[training.keep])
        backbone = getattr(model, "backbone", None)
        self.body = [p for p in backbone.parameters() if p.requires_grad] if backbone is not None else []
        self.state = State()

    @property
    def judged(self) -> nn.Module:
        """The network that is watched and kept: the moving average where there is one."""
        return self.average.module if self.average else self.model

    def fit(self) -> dict:
        """Train to the end; the kept weights are in the model and in weights.safetensors. Returns metrics."""
        self._resume()
        loader = Loader(self.data, self.training.workers)
        with explain_memory(self.line.label, self.training):
            while not self.state.done:
                self._epoch(loader)
                self._close_epoch()
        self.judged.load_state_dict(self.kept.mean or self.judged.state_dict())
        self.model.load_state_dict(self.judged.state_dict())
        checkpoint.save_weights(self.folder / "weights.safetensors", self.model.state_dict())
        self._write_history()
        return metrics(self.line, self.state, [each["epoch"] for each in self.kept.epochs], self.watch is not None)

    def _train_mode(self) -> None:
        """Dropout and batch norm as in training; the backbone learns, but not while the head trains alone."""
        learns = self.state.backbone_learns(self.training)
        self.model.train()
        for parameter in self.body:
            parameter.requires_grad_(learns)
        if self.body and not learns:
            self.model.backbone.eval()

    def _epoch(self, loader: Loader) -> None:
        self._train_mode()
        batches = loader.epoch(self.state.epoch, first=self.state.batch)
        total, saved, mark = len(self.data.batches(self.state.epoch)), time.monotonic(), time.perf_counter()
        for batch in batches:
            waited = time.perf_counter() - mark
            self._batch(batch, total)
            now = time.perf_counter()
            self.state.timed(now - mark, waited)
            mark = now
            report(self.line, self.state, self.training, total)
            at_a_step = self.state.batch % self.training.accumulate == 0
            if at_a_step and time.monotonic() - saved > 60 * self.training.checkpoint_minutes:
                self._save()
                saved = time.monotonic()
            if self.state.spent(self.training) >= 1:
                break

    def _batch(self, batch: dict, total: int) -> None:
        if self.training.schedule != "plateau":
            optimizing.set_rate(self.optimizer, self.training, self.state.place(self.training, total))
        seed(self.training.seed, self.state.epoch, self.state.batch)
        with autocast(self.on, self.training.amp):
            loss = self.loss(self.model, move(batch, self.on))
        value = float(loss.detach())
        if value != value or abs(value) == float("inf"):
            raise UsageError(not_finite(self.line, self.state, value))
        self.scaler.scale(loss / self.training.accumulate).backward()
        self.state.counted(value, len(next(iter(batch.values()))))
        if self.state.batch == total or self.state.batch % self.training.accumulate == 0:
            self._step()

    def _step(self) -> None:
        if self.training.clip or self.training.clip_value:
            self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        if self.average:
            self.average.update(self.model, step=self.state.step)

    def _clip(self) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.training.clip_value:
            nn.utils.clip_grad_value_(self.model.parameters(), self.training.clip_value)
        if self.training.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)

    def _close_epoch(self) -> None:
        row = {"epoch": self.state.epoch + 1, "loss": self.state.mean_loss}
        row["lr"] = self.optimizer.param_groups[0]["lr"]
        if self.watch:
            self.judged.eval()
            row |= self.watch(self.judged)
            self._judge(row["score"])
        elif self.training.keep == "average":
            self.kept.offer(self.state.epoch, float(self.state.epoch), self.judged)  # nothing watched: the last few
        self.state.close(row, self.training, self.watch is not None)
        self._save()

    def _judge(self, score: float) -> None:
        if self.plateau and self.state.backbone_learns(self.training):
            self.plateau.step(score)
        self.state.judged(score)
        if self.kept.count:
            self.kept.offer(self.state.epoch, score, self.judged)

    def _save(self) -> None:
        parts = {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}
        state = {name: part.state_dict() for name, part in parts.items()} | {"identity": self.identity}
        state |= {"loop": vars(self.state), "kept": self.kept.epochs}
        state["plateau"] = self.plateau.state_dict() if self.plateau else None
        state["average"] = self.average.module.state_dict() if self.average else None
        checkpoint.save_state(self.folder / "checkpoint.pt", state)

    def _resume(self) -> None:
        saved = checkpoint.load_state(self.folder / "checkpoint.pt", self.identity)
        if saved is None or not same_framework(self.line, "torch", saved.get("torch"), str(torch.__version__)):
            return
        for name, part in {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}.items():
            part.load_state_dict(saved[name])
        if self.plateau:
            self.plateau.load_state_dict(saved["plateau"])
        if self.average:
            self.average.module.load_state_dict(saved["average"])
        self.kept.epochs = saved["kept"]
        self.state = State(**saved["loop"])
        goes_on(self.line, self.state)

    def _write_history(self) -> None:
        with replacing(self.folder / "history.csv") as temporary:
            pd.DataFrame(self.state.history).to_csv(temporary, index=False)


def fit(*arguments, **named) -> dict:
    """Train a network to its end: see Trainer for the arguments, Trainer.fit for what it leaves."""
    return Trainer(*arguments, **named).fit()
