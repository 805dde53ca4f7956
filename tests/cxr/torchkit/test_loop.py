"""The training loop: what it keeps, and that a killed training ends as an unbroken one."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cxr.errors import UsageError
from cxr.torchkit.loop import Trainer
from cxr.torchkit.optimizers import build_optimizer
from cxr.training.cropping import keyed_rng
from cxr.training.settings import Training

CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Toy:
    """Twelve images of noise, half of them brighter."""

    ids: tuple[str, ...] = tuple(f"i{number}" for number in range(12))

    def batches(self, epoch: int) -> list[list[str]]:
        order = keyed_rng(3, epoch).permutation(len(self.ids))
        return [[self.ids[row] for row in order[start : start + 4]] for start in (0, 4, 8)]

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        label = int(image_id[1:]) % 2
        image = keyed_rng(3, epoch, image_id).normal(label, 1, (1, 8, 8))
        return {"image": image.astype(np.float32), "label": np.float32(label)}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(144, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(image))


def network() -> nn.Module:
    torch.manual_seed(0)
    return Network()


def loss(model: nn.Module, batch: dict) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(model(batch["image"]).squeeze(1), batch["label"])


def trainer(folder: Path, watch=None, **settings) -> Trainer:
    how = {"epochs": 4, "batch": 4, "lr": 0.05, "workers": 0, "checkpoint_minutes": 0} | settings
    return Trainer(network(), Toy(), loss, Training(**how), folder, "id", CPU, watch, "toy")


class Killed(Exception):
    pass


def size_of(model: nn.Module) -> dict[str, float]:
    """A watched score that depends on the weights alone, and goes up and down."""
    return {"score": float(torch.sin(50 * model.head[1].weight.detach().sum()))}


def broken(folder: Path, at_step: int, watch=None, **settings) -> None:
    """Train, and break off after a checkpoint in the middle of an epoch, as a kill would."""
    one = trainer(folder, watch, **settings)
    save = one._save_checkpoint

    def save_then_die() -> None:
        save()
        if one.state.step >= at_step:
            raise Killed

    one._save_checkpoint = save_then_die
    with pytest.raises(Killed):
        one.fit()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"schedule": "onecycle", "ema": 0.9, "keep": "last"},
        {"schedule": "plateau", "clip": 0.5, "optimizer": "adamw"},
        {"schedule": "cosine", "accumulate": 2, "optimizer": "sgd", "cycles": 2},
        {"schedule": "warmup", "warmup_epochs": 2, "lr_start": 0.01, "keep": "average", "top": 2, "optimizer": "radam"},
        {"clip_value": 0.1, "optimizer": "nadam", "head_first": 2, "layer_decay": 0.1},
    ],
)
def test_a_broken_training_ends_as_an_unbroken_one(tmp_path, settings):
    unbroken = trainer(tmp_path / "unbroken", size_of, **settings)
    unbroken.fit()
    broken(tmp_path / "broken", 4, size_of, **settings)
    resumed = trainer(tmp_path / "broken", size_of, **settings)
    resumed.fit()
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert unbroken.state.history == resumed.state.history
    assert len({row["score"] for row in unbroken.state.history}) == 4


def test_the_best_watched_epoch_is_kept(tmp_path):
    weights, scores = [], iter([0.5, 0.9, 0.2, 0.4])

    def watch(model):
        weights.append(model.backbone[0].weight.detach().clone())
        return {"score": next(scores)}

    found = trainer(tmp_path, watch)
    metrics = found.fit()
    assert metrics["kept_epochs"] == [2]
    assert torch.equal(found.model.backbone[0].weight, weights[1])


def test_the_average_of_the_best_epochs_is_kept(tmp_path):
    weights, scores = [], iter([0.5, 0.9, 0.2, 0.7])

    def watch(model):
        weights.append({name: value.detach().clone() for name, value in model.state_dict().items()})
        return {"score": next(scores)}

    found = trainer(tmp_path, watch, keep="average", top=2)
    assert found.fit()["kept_epochs"] == [2, 4]
    for name in ("head.1.weight", "backbone.1.running_mean"):
        assert torch.allclose(found.model.state_dict()[name], (weights[1][name] + weights[3][name]) / 2)


def test_the_head_trains_first_and_the_backbone_stays_as_it_is(tmp_path):
    start = network().state_dict()
    found = trainer(tmp_path, head_first=4, epochs=5)
    epochs = []
    found.validate = lambda model: (
        epochs.append({k: v.clone() for k, v in model.state_dict().items()}) or {"score": 0.0}
    )
    found.fit()
    for name, value in start.items():
        assert torch.equal(epochs[3][name], value) == name.startswith("backbone"), name
    assert not torch.equal(epochs[4]["backbone.0.weight"], start["backbone.0.weight"])


def test_first_layers_learn_at_the_lowest_rate():
    found = build_optimizer(network(), Training(epochs=1, batch=1, lr=1e-4, layer_decay=0.01))
    rates = [group["lr"] for group in found.param_groups]
    assert np.allclose(rates, [1e-4, 1e-6, 1e-5])  # the head, the convolution, batch norm
    assert sum(len(group["params"]) for group in found.param_groups) == len(list(network().parameters()))


def test_gradients_are_clipped_one_by_one(tmp_path):
    found = trainer(tmp_path, clip_value=1e-3, optimizer="sgd")
    found.compute_loss = lambda model, batch: 1e6 * loss(model, batch)
    found.optimizer.step = lambda: seen.extend(p.grad.abs().max().item() for p in found.model.parameters())
    seen = []
    found.fit()
    assert max(seen) == pytest.approx(1e-3)


def test_minutes_end_a_training_within_its_epoch(tmp_path):
    assert trainer(tmp_path / "short", minutes=1e-9, epochs=50).fit()["epochs"] == 1
    long = trainer(tmp_path / "long", minutes=1 / 600, epochs=1)
    assert long.fit()["epochs"] > 1
    assert 0.1 <= long.state.seconds < 0.2


def test_early_stop_counts_epochs_without_a_better_score(tmp_path):
    scores = iter([0.5, 0.4, 0.3, 0.9])
    assert trainer(tmp_path, lambda _: {"score": next(scores)}, early_stop=2).fit()["epochs"] == 3


def test_accumulation_steps_once_for_several_batches(tmp_path):
    found = trainer(tmp_path, accumulate=2)
    found.fit()
    assert found.state.step == 4 * 2  # three batches an epoch: one step of two, one of the last


def test_a_loss_that_is_not_a_number_ends_the_run(tmp_path):
    found = trainer(tmp_path)
    found.compute_loss = lambda model, batch: loss(model, batch) * float("nan")
    with pytest.raises(UsageError, match=r"lower training\.lr"):
        found.fit()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), torch.OutOfMemoryError(),
        MemoryError(), OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Caught MemoryError in DataLoader worker process 0."),
    ],
)  # fmt: skip
def test_too_little_memory_is_one_line_with_the_batch_and_what_to_set(tmp_path, error):
    found = trainer(tmp_path, batch=4, accumulate=3)

    def fails(model, batch):
        raise error

    found.compute_loss = fails
    with pytest.raises(UsageError) as raised:
        found.fit()
    said = str(raised.value)
    assert "\n" not in said
    for part in ("toy", "training.batch: 4", "training.accumulate: 3", "training.batch: 2", "training.accumulate: 6"):
        assert part in said, part


def test_other_errors_of_a_training_stay_what_they_are(tmp_path):
    found = trainer(tmp_path)
    found.compute_loss = lambda model, batch: model(batch["mask"])
    with pytest.raises(KeyError):
        found.fit()
    found.compute_loss = lambda model, batch: model(batch["image"]) @ model(batch["image"])
    with pytest.raises(RuntimeError, match="shapes"):
        found.fit()


def test_another_identity_does_not_resume(tmp_path):
    broken(tmp_path, at_step=2)
    other = trainer(tmp_path)
    other.identity = "other"
    other._resume_training()
    assert other.state.step == 0


def test_a_training_begun_under_another_torch_starts_anew_and_says_so(tmp_path, monkeypatch, capsys):
    broken(tmp_path, 4)
    monkeypatch.setattr(torch, "__version__", "1.0")
    resumed = trainer(tmp_path)
    resumed._resume_training()
    monkeypatch.undo()
    assert resumed.state.step == 0
    said = capsys.readouterr().err
    assert f"toy: starts anew: its checkpoint is of torch {torch.__version__}, here is 1.0\n" in said
    resumed._resume_training()
    assert resumed.state.step == 4


def test_a_damaged_checkpoint_starts_anew(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    other = trainer(tmp_path)
    other._resume_training()
    assert other.state.step == 0


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.cxr.torchkit import test_loop
test_loop.trainer(Path(sys.argv[1]), epochs=400).fit()
"""


def test_kill_minus_nine_leaves_a_checkpoint_to_go_on_from(tmp_path):
    root = Path(__file__).parents[3]
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), str(root)], stderr=subprocess.DEVNULL)
    while not (tmp_path / "checkpoint.pt").is_file():
        assert child.poll() is None, "the training ended before it could be killed"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    resumed = trainer(tmp_path, epochs=400)
    resumed._resume_training()
    assert resumed.state.step > 0
    assert not (tmp_path / "weights.safetensors").exists()
