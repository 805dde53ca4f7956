"""The training loop of Keras members: it does, keeps and writes what cxr.torchkit.loop does, keeps and writes."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from cxr.course import State, explain_memory, goes_on, metrics, not_finite, report, same_framework
from cxr.errors import UsageError
from cxr.files import replacing
from cxr.progress import Line
from stage1_classify.keras_checkpoint import Kept, load_state, save_state
from stage1_classify.keras_device import single
from stage1_classify.keras_optimizers import Plateau, set_rate
from stage1_classify.keras_steps import FEW, Steps

Watch = Callable[[], dict[str, float]]
VERSION = f"{tf.__version__} with Keras {keras.__version__}"


class Trainer:
    """Trains `model` on the batches of `loader` in `folder`, from an equal but interrupted training's checkpoint.

    `watch()` gives metrics of the model as it stands, 'score' among them (higher is better), on patients that are
    neither trained on nor scored.
    """

    def __init__(
        self, model: keras.Model, data, loader, folder: Path, identity: str,
        watch: Watch | None = None, label: str = "", devices: tf.distribute.Strategy | None = None,
    ) -> None:  # fmt: skip
        self.model, self.data, self.loader, self.watch = model, data, loader, watch
        self.member, self.training = data.member, data.member.training
        self.folder, self.identity, self.line = folder, identity, Line(label or folder.name)
        self.steps = Steps(model, self.member, steps_of(data) < FEW, devices or single())
        self.plateau = Plateau(self.training.lr) if self.training.schedule == "plateau" else None
        self.kept = Kept({"best": 1, "last": 0, "average": self.training.top}[self.training.keep])
        self.summed: list[tf.Tensor] = []
        self.state = State()

    def fit(self) -> dict:
        """Train to the end; the kept weights are in the model and in weights.keras. Returns metrics."""
        self._resume()
        with explain_memory(self.line.label, self.training):
            while not self.state.done:
                self._epoch()
                self._close_epoch()
        self.model.set_weights(self.kept.mean or self._judged())
        with replacing(self.folder / "weights.keras") as temporary:
            self.model.save(temporary)
        with replacing(self.folder / "history.csv") as temporary:
            pd.DataFrame(self.state.history).to_csv(temporary, index=False)
        return metrics(self.line, self.state, [each["epoch"] for each in self.kept.epochs], self.watch is not None)

    @property
    def _learns(self) -> bool:
        """Whether the backbone does, too."""
        return not self.member.freeze_backbone and self.state.backbone_learns(self.training)

    def _epoch(self) -> None:
        sizes = [len(ids) for ids in self.data.batches(self.state.epoch)]
        saved, mark = time.monotonic(), time.perf_counter()
        for batch in self.loader.epoch(self.state.epoch, first=self.state.batch):
            waited = time.perf_counter() - mark
            self._batch(batch, sizes)
            now = time.perf_counter()
            self.state.timed(now - mark, waited)
            mark = now
            report(self.line, self.state, self.training, len(sizes))
            if not self.summed and time.monotonic() - saved > 60 * self.training.checkpoint_minutes:
                self._save()
                saved = time.monotonic()
            if self.state.spent(self.training) >= 1:
                break

    def _batch(self, batch: dict, sizes: list[int]) -> None:
        self._set_rate(len(sizes))
        self.steps.seed(self.training.seed, self.state.epoch, self.state.batch)
        size = sizes[self.state.batch]
        loss, gradients = self.steps.gradients(batch, size, self._learns)
        if not np.isfinite(loss):
            raise UsageError(not_finite(self.line, self.state, loss))
        self._add(gradients)
        self.state.counted(loss, size)
        if self.state.batch == len(sizes) or self.state.batch % self.training.accumulate == 0:
            self._step()

    def _set_rate(self, total: int) -> None:
        if self.plateau:
            self.steps.optimizer.learning_rate.assign(self.plateau.lr)
        else:
            set_rate(self.steps.optimizer, self.training, self.state.place(self.training, total))

    def _add(self, gradients: list[tf.Tensor]) -> None:
        scaled = [each / self.training.accumulate for each in gradients] if self.training.accumulate > 1 else gradients
        self.summed = [a + b for a, b in zip(self.summed, scaled, strict=True)] if self.summed else scaled

    def _step(self) -> None:
        self.steps.apply(self.summed, self._learns)
        self.summed = []
        self.state.step += 1
        if self.steps.average:
            self.steps.blend(self.state.step)

    def _judged(self) -> list[np.ndarray]:
        """The weights that are watched and kept: the moving average where there is one."""
        return [each.numpy() for each in self.steps.average] or self.model.get_weights()

    def _close_epoch(self) -> None:
        row = {"epoch": self.state.epoch + 1, "loss": self.state.mean_loss}
        row["lr"] = float(keras.ops.convert_to_numpy(self.steps.optimizer.learning_rate))
        if self.watch:
            row |= self._watched()
            self._judge(row["score"])
        elif self.training.keep == "average":
            self.kept.offer(self.state.epoch, float(self.state.epoch), self._judged())  # nothing watched: the last few
        self.summed = []
        self.state.close(row, self.training, self.watch is not None)
        self._save()

    def _watched(self) -> dict[str, float]:
        """What watch says of the judged weights."""
        if not self.steps.average:
            return self.watch()
        own = self.model.get_weights()
        self.model.set_weights(self._judged())
        found = self.watch()
        self.model.set_weights(own)
        return found

    def _judge(self, score: float) -> None:
        if self.plateau and self.state.backbone_learns(self.training):
            self.plateau.step(score, self.training)
        self.state.judged(score)
        if self.kept.count:
            self.kept.offer(self.state.epoch, score, self._judged())

    def _save(self) -> None:
        arrays = {"model": self.model.get_weights(), "average": [each.numpy() for each in self.steps.average]}
        arrays["optimizer"] = [keras.ops.convert_to_numpy(each) for each in self.steps.optimizer.variables]
        arrays |= {f"kept{epoch}": weights for epoch, weights in self.kept.weights.items()}
        plateau = asdict(self.plateau) if self.plateau else None
        state = {"identity": self.identity, "loop": asdict(self.state), "kept": self.kept.epochs, "plateau": plateau}
        state["tensorflow"] = VERSION
        save_state(self.folder / "checkpoint.npz", arrays, state)

    def _resume(self) -> None:
        found = load_state(self.folder / "checkpoint.npz", self.identity)
        if found is None or not same_framework(self.line, "TensorFlow", found[1].get("tensorflow"), VERSION):
            return
        arrays, saved = found
        self.model.set_weights(arrays["model"])
        for own, values in (
            (self.steps.optimizer.variables, arrays["optimizer"]), (self.steps.average, arrays.get("average", []))
        ):  # fmt: skip
            for variable, value in zip(own, values, strict=True):
                variable.assign(value)
        self.kept.epochs = saved["kept"]
        self.kept.weights = {each["epoch"]: arrays[f"kept{each['epoch']}"] for each in self.kept.epochs}
        self.plateau = Plateau(**saved["plateau"]) if saved["plateau"] else None
        self.state = State(**saved["loop"])
        goes_on(self.line, self.state)


def steps_of(data) -> int:
    """Batches of a whole training, as its first epoch has them."""
    return len(data.batches(0)) * data.member.training.epochs
