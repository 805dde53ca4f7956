"""How far a training has come, what is said of it, and when it ends: the same for every framework's loop."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cxr.contention import Cores
from cxr.errors import DataError, UsageError
from cxr.progress import Line, clock
from cxr.schedule import Place
from cxr.training import Training

CORES = Cores()  # of this process, whichever training is under way
TIMED = 5  # steps after which a rate can be told
# What PyTorch, CUDA, cuBLAS, TensorFlow, OpenCV and the system say where memory is too small, by class and by message.
TOO_LITTLE = {"OutOfMemoryError", "ResourceExhaustedError", "MemoryError"}
SAID_OF_MEMORY = re.compile(
    "out of memory|(not enough|insufficient|cannot allocate|can't allocate) memory|ALLOC_FAILED|OOM when|MemoryError",
    re.IGNORECASE,
)


@dataclass
class State:
    """What a resumed training needs beside the networks and the optimizer; plain values, as a checkpoint holds them."""

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

    def spent(self, training: Training) -> float:
        """Share of training.minutes that has gone; 0 without such a limit."""
        return self.seconds / (60 * training.minutes) if training.minutes else 0.0

    def place(self, training: Training, total: int) -> Place:
        """Where the schedule stands, in an epoch of `total` batches."""
        return Place(self.epoch, self.batch / total, self.spent(training))

    def backbone_learns(self, training: Training) -> bool:
        """Whether the backbone trains in this epoch, not the head alone."""
        return self.epoch >= min(training.head_first, training.epochs - 1)

    def timed(self, seconds: float, waited: float) -> None:
        """A batch is done; the first one of a process waits for loaders to start, which is left out."""
        self.seconds += seconds
        self.waited += waited if self.batch > 1 else 0.0

    def counted(self, loss: float, images: int) -> None:
        """A batch has been seen."""
        self.batch += 1
        self.loss_sum += loss
        self.images += images

    def judged(self, score: float) -> None:
        """The epoch's watched score; the first of two equals is the best."""
        if score > self.best:
            self.best, self.best_epoch = score, self.epoch

    @property
    def mean_loss(self) -> float:
        return self.loss_sum / max(self.batch, 1)

    def close(self, row: dict, training: Training, watched: bool) -> None:
        """End the epoch with its row of the history; the training is done after the last one, or an early stop."""
        self.history.append(row)
        stale = self.epoch - self.best_epoch
        stopped = bool(watched and training.early_stop and stale >= training.early_stop)
        self.epoch, self.batch, self.loss_sum = self.epoch + 1, 0, 0.0
        ended = self.spent(training) >= 1 if training.minutes else self.epoch >= training.epochs
        self.done = stopped or ended


def report(line: Line, state: State, training: Training, total: int) -> None:
    """Say how the training goes, in an epoch of `total` batches, and how long it and the whole run will take; and once
    in a process that its cores are shared."""
    CORES.watch(line)
    if state.step < TIMED:
        return
    done = state.spent(training) if training.minutes else (state.epoch + state.batch / total) / training.epochs
    left = max(state.seconds * (1 / done - 1), 0.0)
    row = state.history[-1] if state.history else {}
    watched = f", watched {row['score']:.3f}" if "score" in row else ""
    run = os.environ.get("CXR_RUN_WORK")  # this unit and those after it, in units of this one
    whole = f", the whole run about {clock(left + (float(run) - 1) * (left + state.seconds))}" if run else ""
    last = "" if training.minutes else f"/{training.epochs}"
    line.say(
        f"epoch {state.epoch + 1}{last}, loss {state.mean_loss:.3f}{watched}, "
        f"{state.images / state.seconds:.1f} images/s, {clock(left)} left{whole}"
    )


def goes_on(line: Line, state: State) -> None:
    """Say that an interrupted training is taken up."""
    line.end(f"goes on from epoch {state.epoch + 1}, batch {state.batch + 1}")


def metrics(line: Line, state: State, kept: list[int], watched: bool) -> dict:
    """Say how a training ended, and return it for run.json; kept: epochs from 0 whose weights are kept, best first."""
    epochs = [epoch + 1 for epoch in kept] or [state.epoch]
    rate, share = (part / max(state.seconds, 1e-9) for part in (state.images, state.waited))
    which = ", ".join(map(str, epochs))
    line.end(f"{state.epoch} epochs, kept {which}, {rate:.1f} images/s, waited {share:.1%} for data")
    return {
        "epochs": state.epoch, "kept_epochs": epochs, "watched": state.best if watched else None,
        "images_per_second": round(rate, 2), "loader_wait": round(share, 4),
    }  # fmt: skip


def not_finite(line: Line, state: State, loss: float) -> str:
    """What to say of a loss that is not a number."""
    return f"{line.label}: the loss is {loss} in epoch {state.epoch + 1}; lower training.lr"


@contextmanager
def explain_memory(label: str, training: Training) -> Iterator[None]:
    """Turn an error of too little memory, of the GPU or of the machine, into a UsageError that says what to set."""
    try:
        yield
    except (UsageError, DataError):
        raise
    except Exception as error:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if not kinds & TOO_LITTLE and not SAID_OF_MEMORY.search(str(error)):
            raise
        raise UsageError(too_little_memory(label, training)) from error


def too_little_memory(label: str, training: Training) -> str:
    """What to say where the memory does not hold a batch: half of it, as often again, has the same steps."""
    batch, accumulate = training.batch, training.accumulate
    half = max(batch // 2, 1)
    less = f"training.batch: {half}, training.accumulate: {round(batch * accumulate / half)}"
    return (
        f"{label}: out of memory with training.batch: {batch}, training.accumulate: {accumulate}; set "
        f"{less + ' (steps as large)' if batch > 1 else 'a smaller view.size'} in its YAML, or end what else uses "
        "the memory"
    )
