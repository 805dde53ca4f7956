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
from cxr.training import Training
from cxr.views import key

CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Toy:
    """Twelve images of noise, half of them brighter."""

    ids: tuple[str, ...] = tuple(f"i{number}" for number in range(12))

    def batches(self, epoch: int) -> list[list[str]]:
        order = key(3, epoch).permutation(len(self.ids))
        return [[self.ids[row] for row in order[start : start + 4]] for start in (0, 4, 8)]

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        label = int(image_id[1:]) % 2
        image = key(3, epoch, image_id).normal(label, 1, (1, 8, 8))
        return {"image": image.astype(np.float32), "label": np.float32(label)}


def network() -> nn.Module:
    torch.manual_seed(0)
    body = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*body, nn.Dropout(0.5), nn.Linear(144, 1))


def loss(model: nn.Module, batch: dict) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(model(batch["image"]).squeeze(1), batch["label"])


def trainer(folder: Path, watch=None, **settings) -> Trainer:
    how = {"epochs": 4, "batch": 4, "lr": 0.05, "workers": 0, "checkpoint_minutes": 0} | settings
    return Trainer(network(), Toy(), loss, Training(**how), folder, "id", CPU, watch, "toy")


class Killed(Exception):
    pass


def size_of(model: nn.Module) -> dict[str, float]:
    """A watched score that depends on the weights alone, and goes up and down."""
    return {"score": float(torch.sin(50 * next(model.parameters()).detach().sum()))}


def broken(folder: Path, at_step: int, watch=None, **settings) -> None:
    """Train, and break off after a checkpoint in the middle of an epoch, as a kill would."""
    one = trainer(folder, watch, **settings)
    save = one._save

    def save_then_die() -> None:
        save()
        if one.state.step >= at_step:
            raise Killed

    one._save = save_then_die
    with pytest.raises(Killed):
        one.fit()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"schedule": "onecycle", "ema": 0.9, "keep": "last"},
        {"schedule": "plateau", "clip": 0.5, "optimizer": "adamw"},
        {"schedule": "cosine", "accumulate": 2, "optimizer": "sgd"},
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
        weights.append(model[0].weight.detach().clone())
        return {"score": next(scores)}

    found = trainer(tmp_path, watch)
    metrics = found.fit()
    assert metrics["kept_epoch"] == 2
    assert torch.equal(found.model[0].weight, weights[1])


def test_early_stop_counts_epochs_without_a_better_score(tmp_path):
    scores = iter([0.5, 0.4, 0.3, 0.9])
    assert trainer(tmp_path, lambda _: {"score": next(scores)}, early_stop=2).fit()["epochs"] == 3


def test_accumulation_steps_once_for_several_batches(tmp_path):
    found = trainer(tmp_path, accumulate=2)
    found.fit()
    assert found.state.step == 4 * 2  # three batches an epoch: one step of two, one of the last


def test_a_loss_that_is_not_a_number_ends_the_run(tmp_path):
    found = trainer(tmp_path)
    found.loss = lambda model, batch: loss(model, batch) * float("nan")
    with pytest.raises(UsageError, match=r"lower training\.lr"):
        found.fit()


def test_another_identity_does_not_resume(tmp_path):
    broken(tmp_path, at_step=2)
    other = trainer(tmp_path)
    other.identity = "other"
    other._resume()
    assert other.state.step == 0


def test_a_damaged_checkpoint_starts_anew(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    other = trainer(tmp_path)
    other._resume()
    assert other.state.step == 0


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.cxr import test_loop
test_loop.trainer(Path(sys.argv[1]), epochs=400).fit()
"""


def test_kill_minus_nine_leaves_a_checkpoint_to_go_on_from(tmp_path):
    root = Path(__file__).parents[2]
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), str(root)], stderr=subprocess.DEVNULL)
    while not (tmp_path / "checkpoint.pt").is_file():
        assert child.poll() is None, "the training ended before it could be killed"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    resumed = trainer(tmp_path, epochs=400)
    resumed._resume()
    assert resumed.state.step > 0
    assert not (tmp_path / "weights.safetensors").exists()
