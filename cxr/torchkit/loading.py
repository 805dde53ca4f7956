"""Batches from loader processes, in an order and with augmentations that depend on (seed, epoch, image) alone."""

from collections.abc import Iterator
from typing import Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from cxr.errors import UsageError
from cxr.processes import count_loaders

LOADER_KILLED = "a loader process was killed (by the system, out of memory?); CXR_WORKERS=<number> takes fewer, 0 none"


class TrainingData(Protocol):
    """What the loop needs of a stage's data; framework-free, so that Keras reads the same."""

    def batches(self, epoch: int) -> list[list[str]]:
        """The image_ids of each batch of an epoch, keyed by (seed, epoch)."""

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        """One augmented example, keyed by (seed, epoch, image_id)."""


class _Arrays(dict):
    """A batch's arrays by name."""

    def pin_memory(self) -> dict[str, torch.Tensor]:
        """As PyTorch's pinning thread asks for it."""
        return {name: torch.from_numpy(value).pin_memory() for name, value in self.items()}


class _PipeDataLoader(DataLoader):
    """Batches that come from the loader processes as arrays through pipes.

    PyTorch's own way for tensors is /dev/shm; a container has 64 MB of it, and a full one kills the run (bus error).
    """

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        try:
            for batch in super().__iter__():
                yield {name: torch.as_tensor(value) for name, value in batch.items()}
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):
                raise
            raise UsageError(LOADER_KILLED) from None


def _stack_samples(samples: list[dict[str, np.ndarray]]) -> _Arrays:
    return _Arrays({name: np.stack([sample[name] for sample in samples]) for name in samples[0]})


class _TrainingDataset:
    """A map-style dataset over (epoch, image_id)."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def __getitem__(self, key: tuple[int, str]) -> dict[str, np.ndarray]:
        return self.data.sample(key[1], key[0])


class _EpochBatchSampler:
    """A batch sampler whose epoch and first batch can be set between epochs."""

    def __init__(self, data: TrainingData) -> None:
        self.data, self.epoch, self.first_batch = data, 0, 0

    def __iter__(self) -> Iterator[list[tuple[int, str]]]:
        for ids in self.data.batches(self.epoch)[self.first_batch :]:
            yield [(self.epoch, image_id) for image_id in ids]

    def __len__(self) -> int:
        return len(self.data.batches(self.epoch)) - self.first_batch


class TrainingLoader:
    """Loads a training's batches in `workers` processes that live as long as the training."""

    def __init__(self, data: TrainingData, workers: int | None) -> None:
        self._batch_sampler = _EpochBatchSampler(data)
        self._loader = _build_loader(_TrainingDataset(data), workers, batch_sampler=self._batch_sampler)

    def load_epoch(self, epoch: int, first_batch: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of an epoch, from number `first_batch` on."""
        self._batch_sampler.epoch, self._batch_sampler.first_batch = epoch, first_batch
        return iter(self._loader)


class _InferenceDataset:
    def __init__(self, image_ids: list[str], load_sample) -> None:
        self.image_ids, self.load_sample = image_ids, load_sample

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        return self.load_sample(self.image_ids[row])


def load_in_order(image_ids: list[str], load_sample, batch_size: int, workers: int | None) -> DataLoader:
    """Batches of `load_sample(image_id)` in the order given, for inference; nothing is dropped.

    workers: of the member's training, as one that asks for 0 has a reason that holds here too.
    image_ids: images, in the order wanted.
    load_sample: gives the arrays of an image by its image_id.
    batch_size: images in a batch.
    """
    return _build_loader(_InferenceDataset(image_ids, load_sample), workers, batch_size=batch_size)


def _build_loader(dataset, workers: int | None, **options) -> DataLoader:
    count = count_loaders(workers)
    options |= {"persistent_workers": True, "prefetch_factor": 4} if count else {}
    options |= {
        "worker_init_fn": _limit_opencv_threads,
        "collate_fn": _stack_samples,
        "pin_memory": torch.cuda.is_available(),
    }
    return _PipeDataLoader(dataset, num_workers=count, **options)


def _limit_opencv_threads(_worker: int) -> None:
    cv2.setNumThreads(0)  # the cores are busy with the network
