"""One head per (fold, subfold), so that no head and no calibration sees a row that it scores.

Each fold's models are a feature space of their own: a head trained across folds mixes spaces.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from stage3_stack import baselines, calibrate
from stage3_stack.calibrate import Scaling
from stage3_stack.config import Config
from stage3_stack.data import FoldRows, sigmoid
from stage3_stack.heads import Part, State, dense_logit, fit_dense, fit_reducer, reduced

KINDS = ("dense", "mean", "logistic", "lightgbm")
_LOGIT = {
    "dense": dense_logit, "mean": baselines.mean_logit,
    "logistic": baselines.logistic_logit, "lightgbm": baselines.lightgbm_logit,
}  # fmt: skip


@dataclass
class Head:
    """The stackers of every kind, trained without some subfolds of a fold."""

    reducer: State
    states: dict[str, State]
    """By kind; a kind that could not be trained is absent, and gives the mean logit."""
    calibration: dict[str, Scaling] = field(default_factory=dict)

    def logit(self, kind: str, rows: FoldRows, chosen: np.ndarray) -> np.ndarray:
        """Logits of the chosen rows, float64 [chosen]."""
        part = _part(rows, chosen, self.reducer)
        return _LOGIT[kind](self.states[kind], part) if kind in self.states else part.mean_logit

    def probs(self, kind: str, rows: FoldRows, chosen: np.ndarray) -> np.ndarray:
        """Probabilities of the chosen rows, float64 [2, chosen]: calibrated, and before that."""
        logits = self.logit(kind, rows, chosen)
        return np.stack([self.calibration[kind].probs(logits), sigmoid(logits)])


@dataclass
class FoldStack:
    """A fold's heads, by the subfold that each was trained without, and the probabilities that they give."""

    heads: dict[int, Head]
    probs: dict[str, np.ndarray]
    """By kind, [n] over the fold's rows: held-out rows by the head that did not see them, others by all."""
    uncalibrated: dict[str, np.ndarray]
    """The same, before calibration"""
    untrained: int
    """Heads, of those and of the ones that calibrate, for which there were too few rows."""


def fit_fold(rows: FoldRows, config: Config, seed: int, kinds: Iterable[str] = KINDS) -> FoldStack:
    """Train a fold's heads and predict all its rows.

    A head without subfold s is calibrated on the other subfolds t, each scored by a head that was
    trained without s and t: neither the head nor its calibration has seen a row of s.
    """
    subfolds = np.unique(rows.subfold[rows.held_out]).tolist()
    kinds = tuple(kinds)
    heads = {s: _fit(rows, (s,), config, seed, kinds) for s in subfolds}
    pairs = [(s, t) for s in subfolds for t in subfolds if s < t]
    inner = {pair: _fit(rows, pair, config, seed, kinds) for pair in pairs}
    for s, head in heads.items():
        head.calibration = {kind: _calibrate(rows, kind, s, inner, config) for kind in kinds}
    untrained = sum(not head.states for head in (*heads.values(), *inner.values()))
    found = {kind: _predict(rows, heads, kind) for kind in kinds}
    calibrated, before = ({kind: pair[k] for kind, pair in found.items()} for k in (0, 1))
    return FoldStack(heads, calibrated, before, untrained)


def _fit(rows: FoldRows, without: tuple[int, ...], config: Config, seed: int, kinds: tuple[str, ...]) -> Head:
    chosen = rows.held_out & ~np.isin(rows.subfold, without)
    if _fewest(rows.labels[chosen]) < config.least_per_class:
        return Head({}, {})
    key = (seed, rows.fold, *without)
    reducer = fit_reducer(rows.features[chosen], config.dense.components, seed)
    part = _part(rows, chosen, reducer)
    fits = {
        "dense": lambda: fit_dense(part, config.dense, key),
        "mean": dict,
        "logistic": lambda: baselines.fit_logistic(part),
        "lightgbm": lambda: baselines.fit_lightgbm(part, config.lightgbm, seed),
    }
    return Head(reducer, {kind: fits[kind]() for kind in kinds})


def _fewest(labels: np.ndarray) -> int:
    return min(int((labels == 0).sum()), int((labels == 1).sum()))


def _part(rows: FoldRows, chosen: np.ndarray, reducer: State) -> Part:
    features = rows.features[chosen]
    components = reduced(reducer, features) if reducer else features[:, :0]
    columns = {name: values[chosen] for name, values in rows.columns.items()}
    return Part(rows.logits[chosen], components, rows.labels[chosen], columns)


def _calibrate(rows: FoldRows, kind: str, left_out: int, inner: dict[tuple[int, int], Head], config: Config) -> Scaling:
    logits, labels = [np.empty(0)], [np.empty(0)]
    for pair, head in inner.items():
        if left_out in pair:
            chosen = rows.subfold == (set(pair) - {left_out}).pop()
            logits.append(head.logit(kind, rows, chosen))
            labels.append(rows.labels[chosen])
    return calibrate.fit(config.calibration, np.concatenate(labels), np.concatenate(logits))


def _predict(rows: FoldRows, heads: dict[int, Head], kind: str) -> np.ndarray:
    """Probabilities of all rows, [2, n]: calibrated, and before that."""
    found = np.full((2, len(rows.image_ids)), np.nan)
    others = ~rows.held_out
    for subfold, head in heads.items():
        found[:, rows.subfold == subfold] = head.probs(kind, rows, rows.subfold == subfold)
    found[:, others] = _mean_of(heads, kind, rows, others)
    return found


def predict_new(rows: FoldRows, heads: dict[int, Head], kind: str, chosen: np.ndarray) -> np.ndarray:
    """Probabilities of images that no head was trained on: the mean of the heads' calibrated ones."""
    return _mean_of(heads, kind, rows, chosen)[0]


def _mean_of(heads: dict[int, Head], kind: str, rows: FoldRows, chosen: np.ndarray) -> np.ndarray:
    if not chosen.any():
        return np.empty((2, 0))
    return np.mean([head.probs(kind, rows, chosen) for head in heads.values()], axis=0)


def save(stacks: dict[int, FoldStack], kind: str) -> dict[str, np.ndarray]:
    """The arrays of one kind's heads in all folds, by 'fold/subfold/name', for one .npz."""
    arrays: dict[str, np.ndarray] = {}
    for fold, stack in stacks.items():
        for subfold, head in stack.heads.items():
            arrays |= {f"{fold}/{subfold}/{name}": value for name, value in _arrays(head, kind).items()}
    return arrays


def _arrays(head: Head, kind: str) -> dict[str, np.ndarray]:
    arrays = {"trained": np.array(kind in head.states)}
    arrays |= {f"reducer/{name}": value for name, value in head.reducer.items()}
    return arrays | {f"state/{name}": value for name, value in head.states.get(kind, {}).items()}


def scalings(stacks: dict[int, FoldStack], kind: str) -> dict[str, Scaling]:
    """The calibrations of one kind's heads in all folds, by 'fold/subfold', for decision.json."""
    pairs = [(f"{fold}/{subfold}", head) for fold, stack in stacks.items() for subfold, head in stack.heads.items()]
    return {key: head.calibration[kind] for key, head in pairs}


def load(arrays: dict[str, np.ndarray], kind: str, scaled: Mapping[str, Scaling]) -> dict[int, dict[int, Head]]:
    """The heads that `save` wrote, with their `scalings`: by fold, by subfold. KeyError where a head has none."""
    found: dict[int, dict[int, Head]] = {}
    for key in (key.removesuffix("/trained") for key in arrays if key.endswith("/trained")):
        fold, subfold = key.split("/")
        states = {kind: _within(arrays, f"{key}/state/")} if arrays[f"{key}/trained"] else {}
        head = Head(_within(arrays, f"{key}/reducer/"), states, {kind: scaled[key]})
        found.setdefault(int(fold), {})[int(subfold)] = head
    return found


def _within(arrays: dict[str, np.ndarray], prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
