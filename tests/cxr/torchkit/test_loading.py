"""Loader processes of PyTorch, and what it writes on a disk without room."""

import os
import resource
import signal

import numpy as np
import pytest
import torch

from cxr.errors import UsageError
from cxr.torchkit import checkpoint
from cxr.torchkit.loading import load_in_order

IDS = ["a", "b", "c"]


def sample(image_id: str) -> dict[str, np.ndarray]:
    image = np.full((1, 64, 64), ord(image_id), np.uint8)
    return {"image": image, "box": np.arange(4, dtype=np.float32), "label": np.float32(image_id == "b")}


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_take_no_shared_memory(workers):
    """A container has 64 MB of it; beyond that the system ends the run with a bus error."""
    first, second = load_in_order(IDS, sample, 2, workers)
    assert first["image"].shape == (2, 1, 64, 64)
    assert [value.dtype for value in first.values()] == [torch.uint8, torch.float32, torch.float32]
    assert (first["image"][:, 0, 0, 0].tolist(), first["label"].tolist()) == ([97, 98], [0, 1])
    assert second["image"].shape == (1, 1, 64, 64)
    assert not any(value.is_shared() for value in first.values())
    assert len(load_in_order(IDS, sample, 2, workers)) == 2


def killed(_image_id: str) -> dict[str, np.ndarray]:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_loader_that_is_killed_ends_with_what_to_do():
    with pytest.raises(UsageError, match="CXR_WORKERS"):
        list(load_in_order(IDS, killed, 2, 1))


@pytest.fixture
def no_room():
    """A limit of 4 KB for a file: the system refuses more as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("save", [checkpoint.save_state, checkpoint.save_weights])
def test_a_checkpoint_without_room_is_an_error_of_the_system_and_leaves_the_last_one(save, no_room, tmp_path):
    path = tmp_path / "weights"
    save(path, {"a": torch.zeros(2)})
    before = path.read_bytes()
    with pytest.raises(OSError, match="weights") as caught:
        save(path, {"a": torch.zeros(100_000)})
    assert (caught.value.filename, caught.value.strerror) == (str(path), "File too large")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
