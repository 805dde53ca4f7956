"""Which stacker is in use: the settings' own or, with auto, the best on held-out images, chosen nested."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluation import metrics, ranking
from stage3_stack.postprocessing.nesting import nesting_groups
from stage3_stack.stacking.cross_fitting import KINDS, FoldStack
from stage3_stack.stacking.out_of_fold import CombinedStacks, uncalibrated_column


@dataclass(frozen=True)
class StackedImages:
    """The tables of CombinedStacks with the probabilities of the stacker in use: prob, uncalibrated."""

    used_stacker: str
    """The stacker of the images without a fold"""
    held_out: pd.DataFrame
    """With auto, each by the stacker that was best on the other folds"""
    new_rows: pd.DataFrame
    stacks: dict[int, FoldStack]
    """By fold"""


def apply_used_stacker(stacker: str, combined: CombinedStacks) -> StackedImages:
    """Add the columns prob and uncalibrated; stacker: as of `Config.stacker`."""
    used_stacker, (_, group) = pick_stacker(stacker, combined.held_out), nesting_groups(combined.held_out)
    kind_by_group = pick_nested_stackers(stacker, combined.held_out, group)
    return StackedImages(
        used_stacker,
        _add_used_columns(combined.held_out, group, kind_by_group),
        _add_used_columns(combined.new_rows, np.zeros(len(combined.new_rows), int), {0: used_stacker}),
        combined.stacks,
    )


def pick_nested_stackers(stacker: str, held_out: pd.DataFrame, group: np.ndarray) -> dict[int, str]:
    """For each group of held-out images, int [n], the stacker picked on all other groups.

    With auto and a single group it is the mean.
    """
    keys = np.unique(group).tolist()
    if len(keys) == 1 and stacker == "auto":
        return {keys[0]: "mean"}
    return {key: pick_stacker(stacker, held_out[group != key]) for key in keys}


def _add_used_columns(table: pd.DataFrame, group: np.ndarray, kind_by_group: dict[int, str]) -> pd.DataFrame:
    return table.assign(
        prob=_column_by_group(table, group, kind_by_group, str),
        uncalibrated=_column_by_group(table, group, kind_by_group, uncalibrated_column),
    )


def _column_by_group(
    table: pd.DataFrame, group: np.ndarray, kind_by_group: dict[int, str], column_of_kind: Callable[[str], str]
) -> np.ndarray:
    """Each image's value in the column of its group's stacker, float64 [n]."""
    values = np.full(len(table), np.nan)
    for key, kind in kind_by_group.items():
        values[group == key] = table[column_of_kind(kind)].to_numpy()[group == key]
    return values


def pick_stacker(stacker: str, held_out: pd.DataFrame) -> str:
    """The stacker as set or, with auto, the best on these held-out rows by AUC, then by log-loss."""
    if stacker != "auto":
        return stacker
    rows, labels = held_out.assign(head=find_scoring_heads(held_out)), held_out["label"].to_numpy()

    def rank_kind(kind: str) -> tuple[float, float]:
        return round(fold_mean_auc(rows, kind) or 0.0, 3), -metrics.log_loss(labels, rows[kind].to_numpy())

    return max(KINDS, key=rank_kind)


def find_scoring_heads(table: pd.DataFrame) -> np.ndarray:
    """Number of the head that scored each held-out image, int [n]: that of its fold and subfold.

    If there are so few images that no head scored both classes, all of a fold count as scored by one head.
    """
    head = table.groupby(["fold", "subfold"]).ngroup().to_numpy()
    labels = table["label"].to_numpy(float)
    return head if metrics.roc_auc_within_groups(labels, labels, head) is not None else table["fold"].to_numpy(int)


def fold_mean_auc(rows: pd.DataFrame, column: str) -> float | None:
    """The panel's AUC of a column of scores: the mean over folds, of pairs that the same head scored.

    rows: label, fold and head of the images, and the column. None if no head scored both classes.
    """
    label, probs, fold, head = (rows[name].to_numpy() for name in ("label", column, "fold", "head"))
    single_resample = np.ones((1, len(rows)), np.uint8)
    auc_values = ranking.compute_mean_fold_auc(label, probs, fold, head, np.arange(len(rows)), single_resample)
    return float(auc_values[0]) if np.isfinite(auc_values[0]) else None
