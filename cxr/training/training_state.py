"""How far a training has come, what is said of it, and when it ends: the same for every framework's loop."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cxr.errors import DataError, UsageError
from cxr.progress import ProgressLine, format_duration
from cxr.training.core_contention import ContentionMonitor
from cxr.training.schedule import SchedulePosition
from cxr.training.settings import Training

CONTENTION_MONITOR = ContentionMonitor()  # of this process, whichever training is under way
MIN_STEPS_FOR_RATE = 5  # steps after which a rate can be told
# What PyTorch, CUDA, cuBLAS, TensorFlow, OpenCV and the system say where memory is too small, by class and by message.
OUT_OF_MEMORY_ERRORS = {"OutOfMemoryError", "ResourceExhaustedError", "MemoryError"}
OUT_OF_MEMORY_MESSAGE = re.compile(
    "out of memory|(not enough|insufficient|cannot allocate|can't allocate) memory|ALLOC_FAILED|OOM when|MemoryError",
    re.IGNORECASE,
)


@dataclass
class TrainingState:
    """What a resumed training needs beside the networks and the optimizer; plain values, as a checkpoint holds them."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_score: float = float("-inf")
    best_epoch: int = -1
    history: list[dict] = field(default_factory=list)
    image_count: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    loss_sum: float = 0.0
    is_finished: bool = False

    def spent_time_share(self, training: Training) -> float:
        """Share of training.minutes that has gone; 0 without such a limit."""
        return self.seconds / (60 * training.minutes) if training.minutes else 0.0

    def schedule_position(self, training: Training, batch_count: int) -> SchedulePosition:
        """Where the schedule stands, in an epoch of `batch_count` batches."""
        return SchedulePosition(self.epoch, self.batch / batch_count, self.spent_time_share(training))

    def backbone_learns(self, training: Training) -> bool:
        """Whether the backbone trains in this epoch, not the head alone."""
        return self.epoch >= min(training.head_first, training.epochs - 1)

    def record_time(self, seconds: float, waited: float) -> None:
        """A batch is done; the first one of a process waits for loaders to start, which is left out."""
        self.seconds += seconds
        self.wait_seconds += waited if self.batch > 1 else 0.0

    def record_batch(self, loss: float, batch_size: int) -> None:
        """A batch has been seen."""
        self.batch += 1
        self.loss_sum += loss
        self.image_count += batch_size

    def record_score(self, score: float) -> None:
        """The epoch's watched score; the first of two equals is the best."""
        if score > self.best_score:
            self.best_score, self.best_epoch = score, self.epoch

    @property
    def mean_loss(self) -> float:
        return self.loss_sum / max(self.batch, 1)

    def close_epoch(self, row: dict, training: Training, has_score: bool) -> None:
        """End the epoch with its row of the history; the training is done after the last one, or an early stop.

        row: of the history: epoch, loss, lr, metrics.
        training: settings of the training.
        has_score: whether the epoch was validated.
        """
        self.history.append(row)
        epochs_since_best = self.epoch - self.best_epoch
        stops_early = bool(has_score and training.early_stop and epochs_since_best >= training.early_stop)
        self.epoch, self.batch, self.loss_sum = self.epoch + 1, 0, 0.0
        reaches_end = self.spent_time_share(training) >= 1 if training.minutes else self.epoch >= training.epochs
        self.is_finished = stops_early or reaches_end


def report_progress(line: ProgressLine, state: TrainingState, training: Training, batch_count: int) -> None:
    """Say how the training goes, in an epoch of `batch_count` batches, and how long it and the whole run will take;
    and once in a process that its cores are shared.

    line: the progress line.
    state: how far the training has come.
    training: settings of the training.
    """
    CONTENTION_MONITOR.warn_if_shared(line)
    if state.step < MIN_STEPS_FOR_RATE:
        return
    done_share = (
        state.spent_time_share(training)
        if training.minutes
        else (state.epoch + state.batch / batch_count) / training.epochs
    )
    seconds_left = max(state.seconds * (1 / done_share - 1), 0.0)
    row = state.history[-1] if state.history else {}
    score_text = f", watched {row['score']:.3f}" if "score" in row else ""
    run_work = os.environ.get("CXR_RUN_WORK")  # this unit and those after it, in units of this one
    run_time_text = ""
    if run_work:
        run_seconds = seconds_left + (float(run_work) - 1) * (seconds_left + state.seconds)
        run_time_text = f", the whole run about {format_duration(run_seconds)}"
    epoch_limit_text = "" if training.minutes else f"/{training.epochs}"
    line.show_progress(
        f"epoch {state.epoch + 1}{epoch_limit_text}, loss {state.mean_loss:.3f}{score_text}, "
        f"{state.image_count / state.seconds:.1f} images/s, {format_duration(seconds_left)} left{run_time_text}"
    )


def report_resume(line: ProgressLine, state: TrainingState) -> None:
    """Say that an interrupted training is taken up."""
    line.print_message(f"goes on from epoch {state.epoch + 1}, batch {state.batch + 1}")


def is_same_framework(line: ProgressLine, framework: str, saved_version: str | None, current_version: str) -> bool:
    """Whether an interrupted training goes on; says so where it starts anew, as another version began it.

    line: the progress line.
    framework: PyTorch or TensorFlow, as messages call it.
    saved_version: that the checkpoint was written with; None: unknown.
    current_version: of this process.
    """
    if saved_version != current_version:
        line.print_message(
            f"starts anew: its checkpoint is of {framework} {saved_version or '(unknown)'}, here is {current_version}"
        )
    return saved_version == current_version


def summarize_training(line: ProgressLine, state: TrainingState, kept_epochs: list[int], has_score: bool) -> dict:
    """Say how a training ended, and return it for run.json.

    kept_epochs: those whose weights are kept, from 0, best first.
    line: the progress line.
    state: how far the training has come.
    has_score: whether the training was validated.
    """
    epoch_numbers = [epoch + 1 for epoch in kept_epochs] or [state.epoch]
    images_per_second, wait_share = (
        amount / max(state.seconds, 1e-9) for amount in (state.image_count, state.wait_seconds)
    )
    epoch_text = ", ".join(map(str, epoch_numbers))
    line.print_message(
        f"{state.epoch} epochs, kept {epoch_text}, {images_per_second:.1f} images/s, waited {wait_share:.1%} for data"
    )
    return {
        "epochs": state.epoch, "kept_epochs": epoch_numbers, "watched": state.best_score if has_score else None,
        "images_per_second": round(images_per_second, 2), "loader_wait": round(wait_share, 4),
    }  # fmt: skip


def describe_nonfinite_loss(line: ProgressLine, state: TrainingState, loss: float) -> str:
    """What to say of a loss that is not a number."""
    return f"{line.label}: the loss is {loss} in epoch {state.epoch + 1}; lower training.lr"


@contextmanager
def explain_out_of_memory(label: str, training: Training) -> Iterator[None]:
    """Turn an error of too little memory, of the GPU or of the machine, into a UsageError that says what to set."""
    try:
        yield
    except (UsageError, DataError):
        raise
    except Exception as error:
        error_classes = {error_class.__name__ for error_class in type(error).__mro__}
        if not error_classes & OUT_OF_MEMORY_ERRORS and not OUT_OF_MEMORY_MESSAGE.search(str(error)):
            raise
        raise UsageError(describe_out_of_memory(label, training)) from error


def describe_out_of_memory(label: str, training: Training) -> str:
    """What to say where the memory does not hold a batch: half of it, as often again, has the same steps."""
    batch, accumulate = training.batch, training.accumulate
    half_batch = max(batch // 2, 1)
    smaller_batch_text = f"training.batch: {half_batch}, training.accumulate: {round(batch * accumulate / half_batch)}"
    return (
        f"{label}: out of memory with training.batch: {batch}, training.accumulate: {accumulate}; "
        f"set {smaller_batch_text + ' (steps as large)' if batch > 1 else 'a smaller view.size'} in its YAML, "
        "or end what else uses the memory"
    )
