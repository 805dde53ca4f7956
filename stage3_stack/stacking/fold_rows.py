"""Stage 1's predictions and features of one fold, joined by image_id; or the maps' statistics in their place."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError, UsageError
from stage3_stack.config.files import STAGE1
from stage3_stack.config.stage import Stage
from stage3_stack.stacking.tabular_features import Columns


@dataclass(frozen=True)
class FoldRows:
    """What one fold's models predict for n images: its held-out ones (split train) and those without a label."""

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
    """float64 [n] of 0 or 1; NaN if not held out"""
    subfold: np.ndarray
    """int [n]; -1 if not held out"""
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """float64 [n, c] by name (tabular_features), NaN where unknown"""

    @property
    def is_held_out(self) -> np.ndarray:
        """bool [n]"""
        return self.subfold >= 0


def read_fold_rows(stage: Stage, fold: int, columns: Columns) -> FoldRows:
    """Rows of a fold, held-out ones first, with the tabular features of the same images.

    Without classifiers the rows are the images that have maps, and the maps' statistics are the features. Raises
    UsageError if a file or a row is missing, if members predicted different images, or if a member predicted an image
    as held out that its fold was trained on; DataError if a value is not a finite number.
    """
    if not stage.unit.members:
        return _build_rows_of_maps(stage.prepared, fold, columns)
    folders = [stage.paths.fold_folder(1, member, fold) for member in stage.unit.members]
    predictions = [_read_predictions(folder) for folder in folders]
    image_ids = _list_image_ids(predictions[0], stage.prepared.folds, fold, folders[0])
    logits = np.stack([_align_logits(*pair, image_ids) for pair in zip(predictions, folders, strict=True)], axis=1)
    features = np.concatenate([_read_features(folder, image_ids) for folder in folders], axis=1)
    split = predictions[0].loc[image_ids, "split"].to_numpy(str)
    return _build_fold_rows(stage.prepared, columns, fold, image_ids, split, logits, features)


def _build_fold_rows(
    prepared: Prepared, columns: Columns, fold: int, image_ids: np.ndarray, split: np.ndarray,
    logits: np.ndarray, features: np.ndarray,
) -> FoldRows:  # fmt: skip
    """Add labels, subfolds and tabular features to the rows of these images."""
    is_held_out = split == "train"
    labels, subfold = np.full(len(image_ids), np.nan), np.full(len(image_ids), -1)
    labels[is_held_out] = prepared.read_labels(image_ids[is_held_out].tolist())
    subfold[is_held_out] = prepared.folds.loc[image_ids[is_held_out], "subfold"]
    column_values = {name: table.reindex(image_ids).to_numpy(float) for name, table in columns.items()}
    return FoldRows(fold, image_ids, split, logits, features, labels, subfold, column_values)


def _build_rows_of_maps(prepared: Prepared, fold: int, columns: Columns) -> FoldRows:
    """A fold's held-out and the test images, by their maps.

    The logit is that of the label heads' mean probability or, without label heads, of the mean score of the top 1 %.
    """
    held_out_ids = prepared.folds.index[prepared.folds["fold"] == fold]
    image_ids = np.array([*sorted(held_out_ids), *sorted(prepared.list_ids("test"))], dtype=str)
    statistics = columns["masks"].reindex(image_ids)
    prob = statistics["head"].fillna(statistics["top"])
    features = statistics.drop(columns="head").to_numpy(np.float32)
    split = prepared.manifest.loc[image_ids, "split"].to_numpy(str)
    return _build_fold_rows(prepared, columns, fold, image_ids, split, logit(prob)[:, None], features)


def _read_predictions(folder: Path) -> pd.DataFrame:
    path = folder / "predictions.parquet"
    table = tables.read_table(path, tables.PREDICTIONS, STAGE1).set_index("image_id")
    if not np.isfinite(table["prob"]).all():
        raise DataError(f"{path}: a probability is not a number")
    return table


def _list_image_ids(table: pd.DataFrame, folds: pd.DataFrame, fold: int, folder: Path) -> np.ndarray:
    """The fold's held-out images, then all others that are predicted, each sorted by image_id."""
    expected_ids = set(folds.index[folds["fold"] == fold])
    predicted_ids = set(table.index[table["split"] == "train"])
    if predicted_ids != expected_ids:
        differing_ids = sorted(predicted_ids ^ expected_ids)
        raise UsageError(
            f"{folder}: the held-out images are not those of fold {fold} "
            f"({len(differing_ids)} differ, {differing_ids[0]} for one); run {STAGE1} again"
        )
    return np.array([*sorted(expected_ids), *sorted(set(table.index) - expected_ids)], dtype=str)


def _align_logits(table: pd.DataFrame, folder: Path, image_ids: np.ndarray) -> np.ndarray:
    differing_ids = set(image_ids) ^ set(table.index)
    if differing_ids:
        raise UsageError(
            f"{folder}: its images are not those of the other members ({min(differing_ids)} for one); run {STAGE1}"
        )
    return logit(table.loc[image_ids, "prob"].to_numpy())


def _read_features(folder: Path, image_ids: np.ndarray) -> np.ndarray:
    path = folder / "features.npz"
    if not path.is_file():
        raise UsageError(f"{path} is missing; it is made by: {STAGE1}")
    with np.load(path, allow_pickle=False) as stored:
        row_of_image = {image_id: number for number, image_id in enumerate(stored["image_id"].tolist())}
        missing = [image_id for image_id in image_ids if image_id not in row_of_image]
        if missing:
            raise UsageError(f"{path}: no features of {missing[0]} and {len(missing) - 1} more; run {STAGE1} again")
        features = stored["features"][[row_of_image[image_id] for image_id in image_ids]].astype(np.float32)
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
