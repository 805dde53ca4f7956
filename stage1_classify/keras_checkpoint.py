"""A Keras training's state on disk: arrays and JSON in one .npz, nothing pickled; and the weights that are kept."""

import json
import zipfile
from pathlib import Path

import numpy as np

from cxr.files import replacing

Weights = list[np.ndarray]


def save_state(path: Path, arrays: dict[str, Weights], state: dict) -> None:
    """Write lists of arrays, and what JSON can say, in one step."""
    named = {f"{name}.{number}": value for name, values in arrays.items() for number, value in enumerate(values)}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, state=np.str_(json.dumps(state)), **named)


def load_state(path: Path, identity: str) -> tuple[dict[str, Weights], dict] | None:
    """What an interrupted training with this identity saved; None where there is none, or it is another's."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            state = json.loads(str(stored["state"]))
            return (_lists(stored), state) if state["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):  # absent or damaged: anew
        return None


def _lists(stored: np.lib.npyio.NpzFile) -> dict[str, Weights]:
    """Savez keeps the order, so that numbers need not be read."""
    found: dict[str, Weights] = {}
    for key in stored.files:
        if key != "state":
            found.setdefault(key.rpartition(".")[0], []).append(stored[key])
    return found


class Kept:
    """The weights of the `count` best epochs so far; the first of two equals stays."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.epochs: list[dict] = []
        """epoch, score; best first"""
        self.weights: dict[int, Weights] = {}
        """by epoch"""

    def offer(self, epoch: int, score: float, weights: Weights) -> None:
        """Keep the weights where they are among the best."""
        if len(self.epochs) == self.count and not score > self.epochs[-1]["score"]:
            return
        ranked = sorted([*self.epochs, {"epoch": epoch, "score": score}], key=lambda each: -each["score"])
        self.epochs, self.weights[epoch] = ranked[: self.count], weights
        self.weights = {each["epoch"]: self.weights[each["epoch"]] for each in self.epochs}

    @property
    def mean(self) -> Weights | None:
        """The mean of the kept weights, batch norm's statistics among them; None where none are kept."""
        if not self.weights:
            return None
        return [np.mean(values, axis=0, dtype=np.float32) for values in zip(*self.weights.values(), strict=True)]
