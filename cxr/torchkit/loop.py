"""The training in PyTorch: mixed precision, accumulation, moving average, exact resume, on cxr.training.epoch_loop."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from cxr.progress import ProgressLine
from cxr.torchkit import checkpoint, optimizers
from cxr.torchkit.device import amp_dtype, autocast, move_batch, seed_torch
from cxr.torchkit.loading import TrainingData, TrainingLoader
from cxr.torchkit.weight_selection import TopCheckpoints
from cxr.training.epoch_loop import EpochLoop, count_kept_epochs
from cxr.training.schedule import SchedulePosition
from cxr.training.settings import Training
from cxr.training.training_state import TrainingState, is_same_framework, report_resume

LossFunction = Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor]
Validate = Callable[[nn.Module], dict[str, float]]


class Trainer(EpochLoop):
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
        self.top_checkpoints = TopCheckpoints(count_kept_epochs(training))
        backbone = getattr(model, "backbone", None)
        self.backbone_parameters = [p for p in backbone.parameters() if p.requires_grad] if backbone is not None else []
        self.state, self.loader = TrainingState(), None

    @property
    def evaluated_model(self) -> nn.Module:
        """The network that is watched and kept: the moving average where there is one."""
        return self.ema.module if self.ema else self.model

    def _start_epoch(self) -> None:
        """Dropout and batch norm as in training; the backbone learns, but not while the head trains alone."""
        backbone_learns = self.state.backbone_learns(self.training)
        self.model.train()
        for parameter in self.backbone_parameters:
            parameter.requires_grad_(backbone_learns)
        if self.backbone_parameters and not backbone_learns:
            self.model.backbone.eval()

    def _load_batches(self) -> Iterable[dict]:
        self.loader = self.loader or TrainingLoader(self.data, self.training.workers)
        return self.loader.load_epoch(self.state.epoch, first_batch=self.state.batch)

    def _set_rate(self, position: SchedulePosition) -> None:
        if self.training.schedule != "plateau":
            optimizers.set_group_rates(self.optimizer, self.training, position)

    def _current_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def _add_gradients(self, batch: dict, size: int) -> float:
        seed_torch(self.training.seed, self.state.epoch, self.state.batch)
        with autocast(self.device, self.training.amp):
            loss = self.compute_loss(self.model, move_batch(batch, self.device))
        loss_value = float(loss.detach())
        self._require_finite(loss_value)
        self.scaler.scale(loss / self.training.accumulate).backward()
        return loss_value

    def _apply_gradients(self) -> None:
        if self.training.clip or self.training.clip_value:
            self._clip_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _update_average(self) -> None:
        if self.ema:
            self.ema.update(self.model, step=self.state.step)

    def _clip_gradients(self) -> None:
        self.scaler.unscale_(self.optimizer)
        if self.training.clip_value:
            nn.utils.clip_grad_value_(self.model.parameters(), self.training.clip_value)
        if self.training.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)

    def _step_plateau(self, score: float) -> None:
        self.plateau.step(score)

    def _validate_weights(self) -> dict[str, float]:
        self.evaluated_model.eval()
        return self.validate(self.evaluated_model)

    def _select_weights(self) -> nn.Module:
        return self.evaluated_model

    def _write_weights(self) -> None:
        self.evaluated_model.load_state_dict(self.top_checkpoints.mean_weights or self.evaluated_model.state_dict())
        self.model.load_state_dict(self.evaluated_model.state_dict())
        checkpoint.save_weights(self.folder / "weights.safetensors", self.model.state_dict())

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


def fit(*arguments, **named) -> dict:
    """Train a network to its end: see Trainer for the arguments, Trainer.fit for what it leaves."""
    return Trainer(*arguments, **named).fit()
