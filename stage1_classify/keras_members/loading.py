"""Batches of NumPy examples from loader processes, in the order of the training's data."""

import dataclasses
import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np

from cxr.datasets.prepared import Prepared
from cxr.processes import init_worker
from stage1_classify.data import ClassifierData

PREFETCHED_BATCHES = 3  # batches under way for each process
_process_data: ClassifierData | None = None  # of this loader process


class TrainingLoader:
    """A training's batches, made in `workers` processes that live as long as it does; with 0 in this one.

    Processes, as the augmentations share random state that threads would mix; not forked, as TensorFlow is running.
    """

    def __init__(self, data: ClassifierData, workers: int) -> None:
        self.data, self.workers = data, workers
        self._pool = _start_pool(data, workers) if workers else None

    def load_epoch(self, epoch: int, first_batch: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The batches of an epoch, from number `first_batch` on: image uint8 [B, s, s, 1], label float32 [B]."""
        batch_ids = self.data.batches(epoch)[first_batch:]
        if self._pool is None:
            yield from (load_batch(self.data, epoch, ids) for ids in batch_ids)
            return
        futures: deque = deque()
        for ids in batch_ids:
            futures.append(self._pool.submit(_load_process_batch, epoch, ids))
            if len(futures) > PREFETCHED_BATCHES * self.workers:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def load_batch(data: ClassifierData, epoch: int, image_ids: list[str]) -> dict[str, np.ndarray]:
    """Training examples stacked, channels last."""
    samples = [data.sample(image_id, epoch) for image_id in image_ids]
    return {
        "image": stack_channels_last([s["image"] for s in samples]),
        "label": np.array([s["label"] for s in samples]),
    }


def stack_channels_last(images: list[np.ndarray]) -> np.ndarray:
    """Gray images [1, s, s] as [B, s, s, 1]."""
    return np.stack(images).transpose(0, 2, 3, 1)


def _start_pool(data: ClassifierData, workers: int) -> ProcessPoolExecutor:
    unopened_data = dataclasses.replace(data, prepared=Prepared(data.prepared.folder, data.prepared.folds_csv))
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_init_process, initargs=(unopened_data,))


def _init_process(data: ClassifierData) -> None:
    global _process_data
    init_worker()
    cv2.setNumThreads(0)  # the cores are busy with the network
    _process_data = data


def _load_process_batch(epoch: int, image_ids: list[str]) -> dict[str, np.ndarray]:
    return load_batch(_process_data, epoch, image_ids)
