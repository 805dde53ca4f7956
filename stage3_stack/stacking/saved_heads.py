"""heads.npz: the heads of the stacker in use, as arrays; their calibrations are in decision.json."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cxr.errors import UsageError
from cxr.files import write_atomically
from stage3_stack.config.files import STAGE3
from stage3_stack.stacking.calibration import Calibration, read_calibrations
from stage3_stack.stacking.cross_fitting import FoldStack, Head
from stage3_stack.stacking.dense_head import State


def write_heads(path: Path, stacks: dict[int, FoldStack], kind: str) -> None:
    """Write the heads of one kind, by fold, as arrays only, so that NumPy alone applies a dense head."""
    with write_atomically(path) as temporary:
        np.savez(temporary, kind=np.array(kind), **heads_to_arrays(stacks, kind))


def read_heads(folder: Path) -> tuple[str, dict[int, dict[int, Head]]]:
    """The stacker in use, and its heads by fold and subfold, with the calibrations of decision.json.

    Raises UsageError if a file, or a head's calibration, is missing.
    """
    path, decision_path = folder / "heads.npz", folder / "decision.json"
    calibrations = read_calibrations(decision_path)
    if not path.is_file():
        raise UsageError(f"{path} is missing; it is made by: {STAGE3}")
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    kind = str(arrays.pop("kind"))
    try:
        return kind, heads_from_arrays(arrays, kind, calibrations)
    except KeyError as head:
        raise UsageError(f"{decision_path}: 'calibration' lacks head {head}; FORCE=1 makes it anew: {STAGE3}") from None


def heads_to_arrays(stacks: dict[int, FoldStack], kind: str) -> dict[str, np.ndarray]:
    """The arrays of one kind's heads in all folds, by 'fold/subfold/name'."""
    arrays: dict[str, np.ndarray] = {}
    for fold, stack in stacks.items():
        for subfold, head in stack.heads.items():
            arrays |= {f"{fold}/{subfold}/{name}": value for name, value in _head_to_arrays(head, kind).items()}
    return arrays


def _head_to_arrays(head: Head, kind: str) -> dict[str, np.ndarray]:
    arrays = {"trained": np.array(kind in head.states)}
    arrays |= {f"reducer/{name}": value for name, value in head.reducer.items()}
    return arrays | {f"state/{name}": value for name, value in head.states.get(kind, {}).items()}


def collect_calibrations(stacks: dict[int, FoldStack], kind: str) -> dict[str, Calibration]:
    """The calibrations of one kind's heads in all folds, by 'fold/subfold'."""
    pairs = [(f"{fold}/{subfold}", head) for fold, stack in stacks.items() for subfold, head in stack.heads.items()]
    return {key: head.calibrations[kind] for key, head in pairs}


def heads_from_arrays(
    arrays: dict[str, np.ndarray], kind: str, calibrations: Mapping[str, Calibration]
) -> dict[int, dict[int, Head]]:
    """The heads of `heads_to_arrays` with their calibrations, by fold and subfold.

    Raises KeyError, with the head, if a calibration is missing.
    """
    heads: dict[int, dict[int, Head]] = {}
    for key in (key.removesuffix("/trained") for key in arrays if key.endswith("/trained")):
        fold, subfold = key.split("/")
        states = {kind: _select_by_prefix(arrays, f"{key}/state/")} if arrays[f"{key}/trained"] else {}
        head = Head(_select_by_prefix(arrays, f"{key}/reducer/"), states, {kind: calibrations[key]})
        heads.setdefault(int(fold), {})[int(subfold)] = head
    return heads


def _select_by_prefix(arrays: dict[str, np.ndarray], prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
