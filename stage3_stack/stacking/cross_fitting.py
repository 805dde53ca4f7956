"""One head per fold and subfold, so that neither a head nor its calibration has seen a row that it scores.

The features of different folds' networks are not comparable, so no head is trained on the rows of several folds.
"""

from collections.abc import Iterable
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
    """By kind; a kind that could not be trained is absent, and predicts the mean logit."""
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    """By kind"""

    def predict_logits(self, kind: str, rows: FoldRows, row_mask: np.ndarray) -> np.ndarray:
        """Logits by the stacker `kind` of those of the n `rows` that are in row_mask, bool [n]: float64 [chosen]."""
        head_input = _build_head_input(rows, row_mask, self.reducer)
        return _LOGIT_FUNCTIONS[kind](self.states[kind], head_input) if kind in self.states else head_input.mean_logit

    def predict_probs(self, kind: str, rows: FoldRows, row_mask: np.ndarray) -> np.ndarray:
        """Probabilities of the same rows, kind and row_mask: float64 [2, chosen], calibrated and uncalibrated."""
        logits = self.predict_logits(kind, rows, row_mask)
        return np.stack([self.calibrations[kind].apply_to_logits(logits), sigmoid(logits)])


@dataclass
class FoldStack:
    """A fold's heads and the probabilities that they predict."""

    heads: dict[int, Head]
    """By the subfold that each was trained without"""
    probs: dict[str, np.ndarray]
    """By kind, [n] over the fold's rows: held-out rows by the head that did not see them, others by the mean of all."""
    uncalibrated_probs: dict[str, np.ndarray]
    """The same, before calibration"""
    untrained_count: int
    """How many heads, with those that only serve to calibrate, had too few rows to be trained"""


def fit_fold_stack(rows: FoldRows, settings: Config, seed: int, kinds: Iterable[str] = KINDS) -> FoldStack:
    """Train a fold's heads and predict all its rows.

    A head without subfold s is calibrated on the other subfolds t, each scored by a head that was
    trained without s and t: neither the head nor its calibration has seen a row of s.

    rows: the fold's n rows
    settings: of stage 3
    seed: of the heads' weights and batches
    kinds: the stackers to train

    Returns the heads and the probabilities of all rows.
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
    """Probabilities of images that no head was trained on: the mean of the heads' calibrated probabilities.

    rows: a fold's n rows
    heads: of the fold, by subfold
    kind: of stacker
    row_mask: the images, bool [n]

    Returns float64 [chosen].
    """
    return _mean_head_probs(heads, kind, rows, row_mask)[0]


def _mean_head_probs(heads: dict[int, Head], kind: str, rows: FoldRows, row_mask: np.ndarray) -> np.ndarray:
    if not row_mask.any():
        return np.empty((2, 0))
    return np.mean([head.predict_probs(kind, rows, row_mask) for head in heads.values()], axis=0)
