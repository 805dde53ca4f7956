"""Batches of NumPy examples from loader processes, in the order of the training's data."""

import dataclasses
import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np

from cxr.prepared import Prepared
from cxr.processes import settle
from stage1_classify.data import ClassifierData

AHEAD = 3  # batches under way for each process
_data: ClassifierData | None = None  # of this loader process


class Loader:
    """A training's batches, made in `workers` processes that live as long as it does; with 0 in this one.

    Processes, as the augmentations share random state that threads would mix; not forked, as TensorFlow is running.
    """

    def __init__(self, data: ClassifierData, workers: int) -> None:
        self.data, self.workers = data, workers
        self._pool = _pool(data, workers) if workers else None

    def epoch(self, epoch: int, first: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The batches of an epoch, from number `first` on: image uint8 [B, s, s, 1], label float32 [B]."""
        asked = self.data.batches(epoch)[first:]
        if self._pool is None:
            yield from (batch_of(self.data, epoch, ids) for ids in asked)
            return
        running: deque = deque()
        for ids in asked:
            running.append(self._pool.submit(_made, epoch, ids))
            if len(running) > AHEAD * self.workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def batch_of(data: ClassifierData, epoch: int, image_ids: list[str]) -> dict[str, np.ndarray]:
    """Training examples stacked, channels last."""
    samples = [data.sample(image_id, epoch) for image_id in image_ids]
    return {"image": channels_last([s["image"] for s in samples]), "label": np.array([s["label"] for s in samples])}


def channels_last(images: list[np.ndarray]) -> np.ndarray:
    """Gray images [1, s, s] as [B, s, s, 1]."""
    return np.stack(images).transpose(0, 2, 3, 1)


def _pool(data: ClassifierData, workers: int) -> ProcessPoolExecutor:
    unopened = dataclasses.replace(data, prepared=Prepared(data.prepared.folder, data.prepared.folds_csv))
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_settle, initargs=(unopened,))


def _settle(data: ClassifierData) -> None:
    global _data
    settle()
    cv2.setNumThreads(0)  # the cores are busy with the network
    _data = data


def _made(epoch: int, image_ids: list[str]) -> dict[str, np.ndarray]:
    return batch_of(_data, epoch, image_ids)
