"""The one training loop: mixed precision, accumulation, averaging, schedules, early stop, exact resume."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from cxr.errors import UsageError
from cxr.files import replacing
from cxr.progress import Line, clock
from cxr.schedule import Place
from cxr.torchkit import checkpoint, optimizing
from cxr.torchkit.device import amp_dtype, autocast, move, seed
from cxr.torchkit.keeping import Kept
from cxr.torchkit.loading import Loader, TrainingData
from cxr.training import Training

Loss = Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]
Watch = Callable[[nn.Module], dict[str, float]]
TIMED = 5  # steps after which a rate can be told


@dataclass
class State:
    """What a resumed training needs beside the networks and the optimizer."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = float("-inf")
    best_epoch: int = -1
    history: list[dict] = field(default_factory=list)
    images: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    loss_sum: float = 0.0
    done: bool = False


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
        while not self.state.done:
            self._epoch(loader)
            self._close_epoch()
        self.judged.load_state_dict(self.kept.mean or self.judged.state_dict())
        self.model.load_state_dict(self.judged.state_dict())
        checkpoint.save_weights(self.folder / "weights.safetensors", self.model.state_dict())
        self._write_history()
        return self._metrics()

    def _train_mode(self) -> None:
        """Dropout and batch norm as in training; the backbone learns, but not while the head trains alone."""
        learns = self.state.epoch >= min(self.training.head_first, self.training.epochs - 1)
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
            self.state.seconds += now - mark
            self.state.waited += waited if self.state.batch > 1 else 0.0  # the first waits for processes to start
            mark = now
            self._report(total)
            at_a_step = self.state.batch % self.training.accumulate == 0
            if at_a_step and time.monotonic() - saved > 60 * self.training.checkpoint_minutes:
                self._save()
                saved = time.monotonic()
            if self._spent >= 1:
                break

    @property
    def _spent(self) -> float:
        """Share of training.minutes that has gone; 0 without such a limit."""
        return self.state.seconds / (60 * self.training.minutes) if self.training.minutes else 0.0

    def _batch(self, batch: dict, total: int) -> None:
        if self.training.schedule != "plateau":
            place = Place(self.state.epoch, self.state.batch / total, self._spent)
            optimizing.set_rate(self.optimizer, self.training, place)
        seed(self.training.seed, self.state.epoch, self.state.batch)
        with autocast(self.on, self.training.amp):
            loss = self.loss(self.model, move(batch, self.on))
        value = float(loss.detach())
        if value != value or abs(value) == float("inf"):
            raise UsageError(
                f"{self.line.label}: the loss is {value} in epoch {self.state.epoch + 1}; lower training.lr"
            )
        self.scaler.scale(loss / self.training.accumulate).backward()
        self.state.batch += 1
        self.state.loss_sum += value
        self.state.images += len(next(iter(batch.values())))
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
        row = {"epoch": self.state.epoch + 1, "loss": self.state.loss_sum / max(self.state.batch, 1)}
        row["lr"] = self.optimizer.param_groups[0]["lr"]
        if self.watch:
            self.judged.eval()
            row |= self.watch(self.judged)
            self._judge(row["score"])
        elif self.training.keep == "average":
            self.kept.offer(self.state.epoch, float(self.state.epoch), self.judged)  # nothing watched: the last few
        self.state.history.append(row)
        self.state.epoch, self.state.batch, self.state.loss_sum = self.state.epoch + 1, 0, 0.0
        stale = self.state.epoch - 1 - self.state.best_epoch
        stopped = bool(self.watch and self.training.early_stop and stale >= self.training.early_stop)
        self.state.done = stopped or self.state.epoch >= self.training.epochs or self._spent >= 1
        self._save()

    def _judge(self, score: float) -> None:
        if self.plateau:
            self.plateau.step(score)
        if score > self.state.best:
            self.state.best, self.state.best_epoch = score, self.state.epoch
        if self.kept.count:
            self.kept.offer(self.state.epoch, score, self.judged)

    def _report(self, total: int) -> None:
        if self.state.step < TIMED:
            return
        pace = self.state.seconds / self.state.images
        done = self.state.epoch + self.state.batch / total
        left = self.state.seconds * (self.training.epochs / done - 1)
        last = self.state.history[-1] if self.state.history else {}
        watched = f", watched {last['score']:.3f}" if "score" in last else ""
        run = os.environ.get("CXR_RUN_WORK")  # this unit and those after it, in units of this one
        whole = f", the whole run about {clock(left + (float(run) - 1) * (left + self.state.seconds))}" if run else ""
        self.line.say(
            f"epoch {self.state.epoch + 1}/{self.training.epochs}, loss "
            f"{self.state.loss_sum / self.state.batch:.3f}{watched}, {1 / pace:.1f} images/s, "
            f"{clock(left)} left{whole}"
        )

    def _save(self) -> None:
        parts = {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}
        state = {name: part.state_dict() for name, part in parts.items()} | {"identity": self.identity}
        state |= {"loop": vars(self.state), "kept": self.kept.epochs}
        state["plateau"] = self.plateau.state_dict() if self.plateau else None
        state["average"] = self.average.module.state_dict() if self.average else None
        checkpoint.save_state(self.folder / "checkpoint.pt", state)

    def _resume(self) -> None:
        saved = checkpoint.load_state(self.folder / "checkpoint.pt", self.identity)
        if saved is None:
            return
        for name, part in {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}.items():
            part.load_state_dict(saved[name])
        if self.plateau:
            self.plateau.load_state_dict(saved["plateau"])
        if self.average:
            self.average.module.load_state_dict(saved["average"])
        self.kept.epochs = saved["kept"]
        self.state = State(**saved["loop"])
        self.line.end(f"goes on from epoch {self.state.epoch + 1}, batch {self.state.batch + 1}")

    def _write_history(self) -> None:
        with replacing(self.folder / "history.csv") as temporary:
            pd.DataFrame(self.state.history).to_csv(temporary, index=False)

    def _metrics(self) -> dict:
        state = self.state
        kept = [each["epoch"] + 1 for each in self.kept.epochs] or [state.epoch]
        rate = state.images / max(state.seconds, 1e-9)
        share = state.waited / max(state.seconds, 1e-9)
        which = ", ".join(map(str, kept))
        self.line.end(f"{state.epoch} epochs, kept {which}, {rate:.1f} images/s, waited {share:.1%} for data")
        return {
            "epochs": state.epoch, "kept_epochs": kept, "watched": state.best if self.watch else None,
            "images_per_second": round(rate, 2), "loader_wait": round(share, 4),
        }  # fmt: skip


def fit(*arguments, **named) -> dict:
    """Train a network to its end: see Trainer for the arguments, Trainer.fit for what it leaves."""
    return Trainer(*arguments, **named).fit()
