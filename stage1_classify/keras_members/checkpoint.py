"""A Keras training's state on disk: arrays and JSON in one .npz, nothing pickled; and the weights that are kept."""

import json
import zipfile
from pathlib import Path

import numpy as np

from cxr.files import write_atomically

Weights = list[np.ndarray]


def save_state(path: Path, arrays: dict[str, Weights], state: dict) -> None:
    """Write lists of arrays, and a state of JSON values, in one step."""
    flat_arrays = {f"{name}.{number}": value for name, values in arrays.items() for number, value in enumerate(values)}
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(file, state=np.str_(json.dumps(state)), **flat_arrays)


def load_state(path: Path, identity: str) -> tuple[dict[str, Weights], dict] | None:
    """The state of an interrupted training with this identity; None if there is none, or it has another identity."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            state = json.loads(str(archive["state"]))
            return (_group_arrays(archive), state) if state["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):  # absent or damaged: anew
        return None


def _group_arrays(archive: np.lib.npyio.NpzFile) -> dict[str, Weights]:
    """Savez keeps the order, so that numbers need not be read."""
    arrays: dict[str, Weights] = {}
    for key in archive.files:
        if key != "state":
            arrays.setdefault(key.rpartition(".")[0], []).append(archive[key])
    return arrays


class TopCheckpoints:
    """The weights of the `count` best epochs so far; the first of two equals stays."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.epochs: list[dict] = []
        """epoch, score; best first"""
        self.weights: dict[int, Weights] = {}
        """by epoch"""

    def add(self, epoch: int, score: float, weights: Weights) -> None:
        """Keep the weights where they are among the best.

        epoch: from 0.
        score: validation score, higher is better.
        weights: arrays of the network.
        """
        if len(self.epochs) == self.count and not score > self.epochs[-1]["score"]:
            return
        ranked = sorted([*self.epochs, {"epoch": epoch, "score": score}], key=lambda entry: -entry["score"])
        self.epochs, self.weights[epoch] = ranked[: self.count], weights
        self.weights = {entry["epoch"]: self.weights[entry["epoch"]] for entry in self.epochs}

    @property
    def mean_weights(self) -> Weights | None:
        """The mean of the kept weights, batch norm's statistics among them; None where none are kept."""
        if not self.weights:
            return None
        return [np.mean(values, axis=0, dtype=np.float32) for values in zip(*self.weights.values(), strict=True)]
