"""All folds' stacks together: one table of held-out images, one of the images without a fold."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from cxr import metrics
from cxr.errors import UsageError
from cxr.panel import ranking
from cxr.paths import Paths
from cxr.prepared import Prepared
from stage3_stack.columns import Columns
from stage3_stack.config import UnitConfig
from stage3_stack.data import MAPS, STAGE1, FoldRows, read_fold, sigmoid
from stage3_stack.masks import fold_of
from stage3_stack.stack import KINDS, FoldStack, fit_fold


@dataclass
class Combined:
    """What the stacks say; tables are indexed by image_id, with a column for each member and each stacker."""

    held_out: pd.DataFrame
    """split, fold, subfold, label and probabilities by the models that did not see the image; in folds.csv's order"""
    others: pd.DataFrame
    """split and probabilities, mean over folds, of unlabelled and test images"""
    stacks: dict[int, FoldStack]


def member(name: str) -> str:
    """The column of a member's probability."""
    return f"member {name}"


def uncalibrated(kind: str) -> str:
    """The column of a stacker's probability before calibration."""
    return f"uncalibrated {kind}"


def members(unit: UnitConfig) -> list[str]:
    """The classifiers or, in a recipe without any, the segmenters' maps."""
    return unit.members or [MAPS]


def combine(paths: Paths, prepared: Prepared, unit: UnitConfig, columns: Columns) -> Combined:
    """Train the stacks of all folds, one fold in memory at a time."""
    tables, stacks = [], {}
    for fold in unit.trained:
        rows = read_fold(paths, prepared, unit.members, fold, columns)
        with threadpool_limits(1):  # many small problems; and the same numbers whatever the machine's cores
            stacks[fold] = fit_fold(rows, unit.config, unit.seed)
        _tell(stacks[fold], rows)
        tables.append(_table(rows, stacks[fold], members(unit)))
    table = pd.concat(tables)
    held_out = table["split"] == "train"
    held = table[held_out].set_index("image_id").loc[fold_of(prepared, unit.trained).index]
    return Combined(held, _average(table[~held_out], len(tables)), stacks)


def _tell(stack: FoldStack, rows: FoldRows) -> None:
    if stack.untrained:
        print(
            f"stage 3 fold {rows.fold}: too few rows of either class for {stack.untrained} heads; "
            "in their place stands the members' mean logit"
        )


def _table(rows: FoldRows, stack: FoldStack, names: list[str]) -> pd.DataFrame:
    columns = {"image_id": rows.image_ids, "split": rows.split, "fold": rows.fold, "subfold": rows.subfold}
    columns |= {"label": rows.labels}
    columns |= {member(name): sigmoid(rows.logits[:, k]) for k, name in enumerate(names)}
    columns |= {uncalibrated(kind): probs for kind, probs in stack.uncalibrated.items()}
    return pd.DataFrame(columns | stack.probs)


def _average(table: pd.DataFrame, folds: int) -> pd.DataFrame:
    """Mean over folds of the probabilities of each; all folds must have predicted the image."""
    groups = table.groupby("image_id")
    missing = groups.size()[groups.size() != folds]
    if len(missing):
        raise UsageError(f"{missing.index[0]} is predicted by {missing.iloc[0]} of {folds} folds; run {STAGE1} again")
    means = groups[table.columns.drop(["image_id", "split", "fold", "subfold", "label"]).tolist()].mean()
    return means.assign(split=groups["split"].first())


def groups(held_out: pd.DataFrame) -> tuple[str, np.ndarray]:
    """What a decision is nested over, and of each image which: the fold or, with one fold, its subfold."""
    by = "fold" if held_out["fold"].nunique() > 1 else "subfold"
    return by, held_out[by].to_numpy(int)


def scored_by(table: pd.DataFrame) -> np.ndarray:
    """Which head scored each held-out image, int [n]: that of its fold and subfold.

    So few images that no head scored both classes count as scored by their fold's.
    """
    head = table.groupby(["fold", "subfold"]).ngroup().to_numpy()
    labels = table["label"].to_numpy(float)
    return head if metrics.auc_within(labels, labels, head) is not None else table["fold"].to_numpy(int)


def auc(rows: pd.DataFrame, column: str) -> float | None:
    """The panel's AUC of a column of scores: the mean over folds, of pairs that the same head scored."""
    label, probs, fold, head = (rows[name].to_numpy() for name in ("label", column, "fold", "head"))
    once = np.ones((1, len(rows)), np.uint8)
    found = ranking.auc_of_folds(label, probs, fold, head, np.arange(len(rows)), once)
    return float(found[0]) if np.isfinite(found[0]) else None


def in_use(stacker: str, combined: Combined) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """The stacker of the images without a fold, and both tables with what the stackers in use say: prob, uncalibrated.

    Where the best is taken (auto), a fold's held-out images have what was best on the other folds'.
    """
    used, (_, group) = pick(stacker, combined.held_out), groups(combined.held_out)
    tables = []
    for table, kinds in ((combined.held_out, nested(stacker, combined.held_out, group)), (combined.others, {0: used})):
        own = group if table is combined.held_out else np.zeros(len(table), int)
        columns = {"prob": str, "uncalibrated": uncalibrated}
        tables.append(table.assign(**{name: _of(table, own, kinds, column) for name, column in columns.items()}))
    return used, *tables


def nested(stacker: str, held_out: pd.DataFrame, group: np.ndarray) -> dict[int, str]:
    """For each group of held-out images [n] the stacker picked on all other groups; the mean where there is none."""
    keys = np.unique(group).tolist()
    if len(keys) == 1 and stacker == "auto":
        return {keys[0]: "mean"}
    return {key: pick(stacker, held_out[group != key]) for key in keys}


def _of(table: pd.DataFrame, group: np.ndarray, kinds: dict[int, str], column: Callable[[str], str]) -> np.ndarray:
    """Of each image the column of its group's stacker."""
    found = np.full(len(table), np.nan)
    for key, kind in kinds.items():
        found[group == key] = table[column(kind)].to_numpy()[group == key]
    return found


def pick(stacker: str, held_out: pd.DataFrame) -> str:
    """The stacker as set or, with auto, the best on these held-out rows by AUC, then by log-loss."""
    if stacker != "auto":
        return stacker
    rows, labels = held_out.assign(head=scored_by(held_out)), held_out["label"].to_numpy()

    def worth(kind: str) -> tuple[float, float]:
        return round(auc(rows, kind) or 0.0, 3), -metrics.log_loss(labels, rows[kind].to_numpy())

    return max(KINDS, key=worth)
