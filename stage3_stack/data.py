"""Stage 1's predictions and features of one fold, joined by image_id; or what the maps say in their place."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import tables
from cxr.errors import DataError, UsageError
from cxr.paths import Paths
from cxr.prepared import Prepared
from stage3_stack.columns import Columns

MAPS = "maps"
"""The one member of a recipe without classifiers: what the segmenters' maps say."""
STAGE1 = "stage 1 (cd stage1_classify && bash run.sh)"


@dataclass(frozen=True)
class FoldRows:
    """What one fold's models say: of its held-out images (split train), and of those without a label."""

    fold: int
    image_ids: np.ndarray
    """str [n]"""
    split: np.ndarray
    """str [n]: train, unlabelled or test"""
    logits: np.ndarray
    """float64 [n, members]"""
    features: np.ndarray
    """float32 [n, sum of the members' widths]"""
    labels: np.ndarray
    """float64 [n] of 0 or 1; NaN but for held-out rows"""
    subfold: np.ndarray
    """int [n]; -1 but for held-out rows"""
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """float64 [n, c] by name (columns.py), NaN where unknown"""

    @property
    def held_out(self) -> np.ndarray:
        return self.subfold >= 0


def read_fold(paths: Paths, prepared: Prepared, members: list[str], fold: int, columns: Columns) -> FoldRows:
    """Rows of a fold, held-out ones first; every member must have predicted the same images.

    Without members the rows are those that have maps, and the maps' statistics stand for the features.
    Raises UsageError where a file or a row is missing, or where a member predicted an image as held-out that
    its fold was trained on.
    """
    if not members:
        return _of_maps(prepared, fold, columns)
    folders = [paths.unit(1, member, fold) for member in members]
    predictions = [_predictions(folder) for folder in folders]
    ids = _rows(predictions[0], prepared.folds, fold, folders[0])
    logits = np.stack([_logits(*pair, ids) for pair in zip(predictions, folders, strict=True)], axis=1)
    features = np.concatenate([_features(folder, ids) for folder in folders], axis=1)
    split = predictions[0].loc[ids, "split"].to_numpy(str)
    return _known(prepared, columns, fold, ids, split, logits, features)


def _known(
    prepared: Prepared, columns: Columns, fold: int, ids: np.ndarray, split: np.ndarray,
    logits: np.ndarray, features: np.ndarray,
) -> FoldRows:  # fmt: skip
    """The rows with labels, subfolds and columns."""
    held_out = split == "train"
    labels, subfold = np.full(len(ids), np.nan), np.full(len(ids), -1)
    labels[held_out] = prepared.labels(ids[held_out].tolist())
    subfold[held_out] = prepared.folds.loc[ids[held_out], "subfold"]
    found = {name: table.reindex(ids).to_numpy(float) for name, table in columns.items()}
    return FoldRows(fold, ids, split, logits, features, labels, subfold, found)


def _of_maps(prepared: Prepared, fold: int, columns: Columns) -> FoldRows:
    """A fold's held-out and the test images; the logit is the label heads' or, without any, the map's score."""
    held_out = prepared.folds.index[prepared.folds["fold"] == fold]
    ids = np.array([*sorted(held_out), *sorted(prepared.ids("test"))], dtype=str)
    found = columns["masks"].reindex(ids)
    prob = found["head"].fillna(found["top"])
    features = found.drop(columns="head").to_numpy(np.float32)
    split = prepared.manifest.loc[ids, "split"].to_numpy(str)
    return _known(prepared, columns, fold, ids, split, logit(prob)[:, None], features)


def _predictions(folder: Path) -> pd.DataFrame:
    path = folder / "predictions.parquet"
    table = tables.read(path, tables.PREDICTIONS, STAGE1).set_index("image_id")
    if not np.isfinite(table["prob"]).all():
        raise DataError(f"{path}: a probability is not a number")
    return table


def _rows(table: pd.DataFrame, folds: pd.DataFrame, fold: int, folder: Path) -> np.ndarray:
    """The fold's held-out images, then all others that are predicted; sorted, so that file order means nothing."""
    expected = set(folds.index[folds["fold"] == fold])
    found = set(table.index[table["split"] == "train"])
    if found != expected:
        odd = sorted(found ^ expected)
        raise UsageError(
            f"{folder}: the held-out images are not those of fold {fold} "
            f"({len(odd)} differ, {odd[0]} for one); run {STAGE1} again"
        )
    return np.array([*sorted(expected), *sorted(set(table.index) - expected)], dtype=str)


def _logits(table: pd.DataFrame, folder: Path, ids: np.ndarray) -> np.ndarray:
    odd = set(ids) ^ set(table.index)
    if odd:
        raise UsageError(f"{folder}: its images are not those of the other members ({min(odd)} for one); run {STAGE1}")
    return logit(table.loc[ids, "prob"].to_numpy())


def _features(folder: Path, ids: np.ndarray) -> np.ndarray:
    path = folder / "features.npz"
    if not path.is_file():
        raise UsageError(f"{path} is missing; it is made by: {STAGE1}")
    with np.load(path, allow_pickle=False) as stored:
        row = {image_id: number for number, image_id in enumerate(stored["image_id"].tolist())}
        missing = [image_id for image_id in ids if image_id not in row]
        if missing:
            raise UsageError(f"{path}: no features of {missing[0]} and {len(missing) - 1} more; run {STAGE1} again")
        features = stored["features"][[row[image_id] for image_id in ids]].astype(np.float32)
    if not np.isfinite(features).all():
        raise DataError(f"{path}: a feature is not a number")
    return features


def logit(prob: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), kept finite."""
    prob = np.clip(np.asarray(prob, np.float64), 1e-6, 1 - 1e-6)
    return np.log(prob) - np.log1p(-prob)


def sigmoid(value: np.ndarray) -> np.ndarray:
    """The inverse of `logit`, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(value, np.float64)))
