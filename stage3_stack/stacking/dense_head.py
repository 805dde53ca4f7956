"""The dense head on all members' bottleneck features, fitted to one fold's rows.

A head is a dict of arrays, which NumPy alone applies: PyTorch is needed to train one, not to use it.
"""

from dataclasses import dataclass

import numpy as np

from stage3_stack.config import DenseConfig

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class HeadInput:
    """The rows that a head is trained on or applied to."""

    member_logits: np.ndarray
    """float64 [n, members]"""
    components: np.ndarray
    """float32 [n, c]: principal components of the bottleneck features"""
    labels: np.ndarray
    """float64 [n] of 0 or 1, NaN where unknown"""
    columns: dict[str, np.ndarray]
    """float64 [n, c] by name: header, box, masks, if they exist; NaN where unknown"""

    @property
    def mean_logit(self) -> np.ndarray:
        """The members' mean logit, float64 [n]."""
        return self.member_logits.mean(axis=1)


def fit_reducer(features: np.ndarray, components: int, seed: int) -> State:
    """Standardisation and whitened principal components of features [n, d], at most n / 4 of them."""
    from sklearn.decomposition import PCA  # takes a second to import

    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    component_count = max(1, min(components, len(features) // 4, features.shape[1]))
    pca = PCA(component_count, svd_solver="randomized", random_state=seed).fit((features - mean) / scale)
    spread = np.sqrt(np.maximum(pca.explained_variance_, 1e-6))
    axes = (pca.components_ / spread[:, None]).T / scale[:, None]
    return {"mean": mean.astype(np.float32), "axes": axes.astype(np.float32)}


def reduce_features(reducer: State, features: np.ndarray) -> np.ndarray:
    """Principal components of features, [n, d] -> [n, c] of unit variance where they were fitted."""
    return (features - reducer["mean"]) @ reducer["axes"]


def fit_dense(head_input: HeadInput, settings: DenseConfig, seed: tuple[int, ...]) -> State:
    """Train components -> width (ReLU) -> 1 as a correction to the members' mean logit; returns the head's weights.

    The last layer starts at zero, so that with 0 steps the head is the mean. With few rows a head that
    starts from random weights loses to the mean; this one has only to learn a correction. (Starting from the
    mean logit fitted to the training rows was tried: more log-loss on 70 to 240 rows, no better AUC
    where the features add nothing.)
    """
    import torch
    from torch import nn

    from cxr.torchkit.device import seed_torch

    torch.set_num_threads(1)  # a step is so small that threads only wait for each other (measured: 20 times slower)
    seed_torch(*seed)
    head = _create_head(head_input.components.shape[1], settings.width)
    components, offset, labels = (
        torch.from_numpy(values.astype(np.float32))
        for values in (head_input.components, head_input.mean_logit, head_input.labels)
    )
    optimizer = torch.optim.AdamW(head.parameters(), settings.lr, weight_decay=settings.weight_decay)
    for batch in map(torch.from_numpy, _draw_batches(len(labels), settings, seed)):
        logits = offset[batch] + head(components[batch]).squeeze(1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: value.numpy().copy() for name, value in head.state_dict().items()}


def _create_head(components: int, width: int):
    from torch import nn

    head = nn.Sequential(nn.Linear(components, width), nn.ReLU(), nn.Linear(width, 1))
    nn.init.zeros_(head[2].weight)
    nn.init.zeros_(head[2].bias)
    return head


def dense_logit(state: State, head_input: HeadInput) -> np.ndarray:
    """Logits of a dense head, float64 [n]."""
    hidden = np.maximum(head_input.components @ state["0.weight"].T + state["0.bias"], 0)
    return head_input.mean_logit + (hidden @ state["2.weight"].T + state["2.bias"])[:, 0]


def _draw_batches(row_count: int, settings: DenseConfig, seed: tuple[int, ...]) -> list[np.ndarray]:
    """Row numbers of each step's batch: the rows are shuffled again each time they are used up."""
    rng = np.random.default_rng(seed)
    needed_rows, shuffles = settings.steps * settings.batch, []
    while sum(map(len, shuffles)) < needed_rows:
        shuffles.append(rng.permutation(row_count))
    order = np.concatenate([*shuffles, np.empty(0, int)])[:needed_rows]
    return np.split(order, settings.steps) if settings.steps else []
