"""One head per (fold, subfold), so that no head and no calibration sees a row that it scores.

Each fold's models are a feature space of their own: a head trained across folds mixes spaces.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from stage3_stack.config import Config
from stage3_stack.stacking import baselines, calibration
from stage3_stack.stacking.calibration import Calibration
from stage3_stack.stacking.dense_head import HeadInput, State, dense_logit, fit_dense, fit_reducer, reduce_features
from stage3_stack.stacking.fold_rows import FoldRows, sigmoid

KINDS = ("dense", "mean", "logistic", "lightgbm")
_LOGIT_FUNCTIONS = {
    "dense": dense_logit, "mean": baselines.mean_logit,
    "logistic": baselines.logistic_logit, "lightgbm": baselines.lightgbm_logit,
}  # fmt: skip


@dataclass
class Head:
    """The stackers of every kind, trained without some subfolds of a fold."""

    reducer: State
    states: dict[str, State]
    """By kind; a kind that could not be trained is absent, and gives the mean logit."""
    calibrations: dict[str, Calibration] = field(default_factory=dict)

    def predict_logits(self, kind: str, rows: FoldRows, row_mask: np.ndarray) -> np.ndarray:
        """Logits of the chosen rows, float64 [chosen]."""
        head_input = _build_head_input(rows, row_mask, self.reducer)
        return _LOGIT_FUNCTIONS[kind](self.states[kind], head_input) if kind in self.states else head_input.mean_logit

    def predict_probs(self, kind: str, rows: FoldRows, row_mask: np.ndarray) -> np.ndarray:
        """Probabilities of the chosen rows, float64 [2, chosen]: calibrated, and before that."""
        logits = self.predict_logits(kind, rows, row_mask)
        return np.stack([self.calibrations[kind].apply_to_logits(logits), sigmoid(logits)])


@dataclass
class FoldStack:
    """A fold's heads, by the subfold that each was trained without, and the probabilities that they give."""

    heads: dict[int, Head]
    probs: dict[str, np.ndarray]
    """By kind, [n] over the fold's rows: held-out rows by the head that did not see them, others by all."""
    uncalibrated_probs: dict[str, np.ndarray]
    """The same, before calibration"""
    untrained_count: int
    """Heads, of those and of the ones that calibrate, for which there were too few rows."""


def fit_fold_stack(rows: FoldRows, settings: Config, seed: int, kinds: Iterable[str] = KINDS) -> FoldStack:
    """Train a fold's heads and predict all its rows.

    A head without subfold s is calibrated on the other subfolds t, each scored by a head that was
    trained without s and t: neither the head nor its calibration has seen a row of s.
    """
    subfolds = np.unique(rows.subfold[rows.is_held_out]).tolist()
    kinds = tuple(kinds)
    heads = {s: _fit_head(rows, (s,), settings, seed, kinds) for s in subfolds}
    pairs = [(s, t) for s in subfolds for t in subfolds if s < t]
    pair_heads = {pair: _fit_head(rows, pair, settings, seed, kinds) for pair in pairs}
    for s, head in heads.items():
        head.calibrations = {kind: _calibrate_head(rows, kind, s, pair_heads, settings) for kind in kinds}
    untrained_count = sum(not head.states for head in (*heads.values(), *pair_heads.values()))
    probs_by_kind = {kind: _predict_rows(rows, heads, kind) for kind in kinds}
    calibrated_probs, uncalibrated_probs = ({kind: pair[k] for kind, pair in probs_by_kind.items()} for k in (0, 1))
    return FoldStack(heads, calibrated_probs, uncalibrated_probs, untrained_count)


def _fit_head(rows: FoldRows, left_out: tuple[int, ...], settings: Config, seed: int, kinds: tuple[str, ...]) -> Head:
    row_mask = rows.is_held_out & ~np.isin(rows.subfold, left_out)
    if _count_rarer_class(rows.labels[row_mask]) < settings.min_rows_per_class:
        return Head({}, {})
    seed_key = (seed, rows.fold, *left_out)
    reducer = fit_reducer(rows.features[row_mask], settings.dense.components, seed)
    head_input = _build_head_input(rows, row_mask, reducer)
    fitters = {
        "dense": lambda: fit_dense(head_input, settings.dense, seed_key),
        "mean": dict,
        "logistic": lambda: baselines.fit_logistic(head_input),
        "lightgbm": lambda: baselines.fit_lightgbm(head_input, settings.lightgbm, seed),
    }
    return Head(reducer, {kind: fitters[kind]() for kind in kinds})


def _count_rarer_class(labels: np.ndarray) -> int:
    return min(int((labels == 0).sum()), int((labels == 1).sum()))


def _build_head_input(rows: FoldRows, row_mask: np.ndarray, reducer: State) -> HeadInput:
    features = rows.features[row_mask]
    components = reduce_features(reducer, features) if reducer else features[:, :0]
    columns = {name: values[row_mask] for name, values in rows.columns.items()}
    return HeadInput(rows.logits[row_mask], components, rows.labels[row_mask], columns)


def _calibrate_head(
    rows: FoldRows, kind: str, left_out: int, pair_heads: dict[tuple[int, int], Head], settings: Config
) -> Calibration:
    logits, labels = [np.empty(0)], [np.empty(0)]
    for pair, head in pair_heads.items():
        if left_out in pair:
            row_mask = rows.subfold == (set(pair) - {left_out}).pop()
            logits.append(head.predict_logits(kind, rows, row_mask))
            labels.append(rows.labels[row_mask])
    return calibration.fit_calibration(settings.calibration, np.concatenate(labels), np.concatenate(logits))


def _predict_rows(rows: FoldRows, heads: dict[int, Head], kind: str) -> np.ndarray:
    """Probabilities of all rows, [2, n]: calibrated, and before that."""
    probs = np.full((2, len(rows.image_ids)), np.nan)
    is_new = ~rows.is_held_out
    for subfold, head in heads.items():
        probs[:, rows.subfold == subfold] = head.predict_probs(kind, rows, rows.subfold == subfold)
    probs[:, is_new] = _mean_head_probs(heads, kind, rows, is_new)
    return probs


def predict_new_images(rows: FoldRows, heads: dict[int, Head], kind: str, row_mask: np.ndarray) -> np.ndarray:
    """Probabilities of images that no head was trained on: the mean of the heads' calibrated ones."""
    return _mean_head_probs(heads, kind, rows, row_mask)[0]


def _mean_head_probs(heads: dict[int, Head], kind: str, rows: FoldRows, row_mask: np.ndarray) -> np.ndarray:
    if not row_mask.any():
        return np.empty((2, 0))
    return np.mean([head.predict_probs(kind, rows, row_mask) for head in heads.values()], axis=0)


def heads_to_arrays(stacks: dict[int, FoldStack], kind: str) -> dict[str, np.ndarray]:
    """The arrays of one kind's heads in all folds, by 'fold/subfold/name', for one .npz."""
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
    """The calibrations of one kind's heads in all folds, by 'fold/subfold', for decision.json."""
    pairs = [(f"{fold}/{subfold}", head) for fold, stack in stacks.items() for subfold, head in stack.heads.items()]
    return {key: head.calibrations[kind] for key, head in pairs}


def heads_from_arrays(
    arrays: dict[str, np.ndarray], kind: str, calibrations: Mapping[str, Calibration]
) -> dict[int, dict[int, Head]]:
    """The heads of `heads_to_arrays`, with `calibrations`: by fold, by subfold. KeyError where a head has none."""
    heads: dict[int, dict[int, Head]] = {}
    for key in (key.removesuffix("/trained") for key in arrays if key.endswith("/trained")):
        fold, subfold = key.split("/")
        states = {kind: _select_by_prefix(arrays, f"{key}/state/")} if arrays[f"{key}/trained"] else {}
        head = Head(_select_by_prefix(arrays, f"{key}/reducer/"), states, {kind: calibrations[key]})
        heads.setdefault(int(fold), {})[int(subfold)] = head
    return heads


def _select_by_prefix(arrays: dict[str, np.ndarray], prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
