"""All folds' stacks together: one table of held-out images, one of the images without a fold."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError
from cxr.paths import Paths
from evaluation import metrics, ranking
from stage3_stack.config import UnitConfig
from stage3_stack.postprocessing.final_masks import fold_of_images
from stage3_stack.stacking.cross_fitting import KINDS, FoldStack, fit_fold_stack
from stage3_stack.stacking.fold_rows import MAPS, STAGE1, FoldRows, read_fold_rows, sigmoid
from stage3_stack.stacking.tabular_features import Columns


@dataclass
class CombinedStacks:
    """What the stacks say; tables are indexed by image_id, with a column for each member and each stacker."""

    held_out: pd.DataFrame
    """split, fold, subfold, label and probabilities by the models that did not see the image; in folds.csv's order"""
    new_rows: pd.DataFrame
    """split and probabilities, mean over folds, of unlabelled and test images"""
    stacks: dict[int, FoldStack]


def member_column(name: str) -> str:
    """The column of a member's probability."""
    return f"member {name}"


def uncalibrated_column(kind: str) -> str:
    """The column of a stacker's probability before calibration."""
    return f"uncalibrated {kind}"


def list_members(unit: UnitConfig) -> list[str]:
    """The classifiers or, in a recipe without any, the segmenters' maps."""
    return unit.members or [MAPS]


def train_fold_stacks(paths: Paths, prepared: Prepared, unit: UnitConfig, columns: Columns) -> CombinedStacks:
    """Train the stacks of all folds, one fold in memory at a time."""
    fold_tables, stacks = [], {}
    for fold in unit.trained:
        rows = read_fold_rows(paths, prepared, unit.members, fold, columns)
        with threadpool_limits(1):  # many small problems; and the same numbers whatever the machine's cores
            stacks[fold] = fit_fold_stack(rows, unit.settings, unit.seed)
        _warn_of_untrained_heads(stacks[fold], rows)
        fold_tables.append(_build_fold_table(rows, stacks[fold], list_members(unit)))
    table = pd.concat(fold_tables)
    is_held_out = table["split"] == "train"
    held_out_rows = table[is_held_out].set_index("image_id").loc[fold_of_images(prepared, unit.trained).index]
    return CombinedStacks(held_out_rows, _average_over_folds(table[~is_held_out], len(fold_tables)), stacks)


def _warn_of_untrained_heads(stack: FoldStack, rows: FoldRows) -> None:
    if stack.untrained_count:
        print(
            f"stage 3 fold {rows.fold}: too few rows of either class for {stack.untrained_count} heads; "
            "in their place stands the members' mean logit"
        )


def _build_fold_table(rows: FoldRows, stack: FoldStack, member_names: list[str]) -> pd.DataFrame:
    columns = {"image_id": rows.image_ids, "split": rows.split, "fold": rows.fold, "subfold": rows.subfold}
    columns |= {"label": rows.labels}
    columns |= {member_column(name): sigmoid(rows.logits[:, k]) for k, name in enumerate(member_names)}
    columns |= {uncalibrated_column(kind): probs for kind, probs in stack.uncalibrated_probs.items()}
    return pd.DataFrame(columns | stack.probs)


def _average_over_folds(table: pd.DataFrame, fold_count: int) -> pd.DataFrame:
    """Mean over folds of the probabilities of each; all folds must have predicted the image."""
    by_image = table.groupby("image_id")
    missing = by_image.size()[by_image.size() != fold_count]
    if len(missing):
        raise UsageError(
            f"{missing.index[0]} is predicted by {missing.iloc[0]} of {fold_count} folds; run {STAGE1} again"
        )
    means = by_image[table.columns.drop(["image_id", "split", "fold", "subfold", "label"]).tolist()].mean()
    return means.assign(split=by_image["split"].first())


def nesting_groups(held_out: pd.DataFrame) -> tuple[str, np.ndarray]:
    """What a decision is nested over, and of each image which: the fold or, with one fold, its subfold."""
    nested_by = "fold" if held_out["fold"].nunique() > 1 else "subfold"
    return nested_by, held_out[nested_by].to_numpy(int)


def find_scoring_heads(table: pd.DataFrame) -> np.ndarray:
    """Which head scored each held-out image, int [n]: that of its fold and subfold.

    So few images that no head scored both classes count as scored by their fold's.
    """
    head = table.groupby(["fold", "subfold"]).ngroup().to_numpy()
    labels = table["label"].to_numpy(float)
    return head if metrics.roc_auc_within_groups(labels, labels, head) is not None else table["fold"].to_numpy(int)


def fold_mean_auc(rows: pd.DataFrame, column: str) -> float | None:
    """The panel's AUC of a column of scores: the mean over folds, of pairs that the same head scored."""
    label, probs, fold, head = (rows[name].to_numpy() for name in ("label", column, "fold", "head"))
    single_resample = np.ones((1, len(rows)), np.uint8)
    auc_values = ranking.compute_mean_fold_auc(label, probs, fold, head, np.arange(len(rows)), single_resample)
    return float(auc_values[0]) if np.isfinite(auc_values[0]) else None


def apply_used_stacker(stacker: str, combined: CombinedStacks) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """The stacker of the images without a fold, and both tables with what the stackers in use say: prob, uncalibrated.

    Where the best is taken (auto), a fold's held-out images have what was best on the other folds'.
    """
    used_stacker, (_, group) = pick_stacker(stacker, combined.held_out), nesting_groups(combined.held_out)
    tables = []
    for table, kinds in (
        (combined.held_out, pick_nested_stackers(stacker, combined.held_out, group)),
        (combined.new_rows, {0: used_stacker}),
    ):
        table_group = group if table is combined.held_out else np.zeros(len(table), int)
        column_functions = {"prob": str, "uncalibrated": uncalibrated_column}
        tables.append(
            table.assign(
                **{
                    name: _column_by_group(table, table_group, kinds, column)
                    for name, column in column_functions.items()
                }
            )
        )
    return used_stacker, *tables


def pick_nested_stackers(stacker: str, held_out: pd.DataFrame, group: np.ndarray) -> dict[int, str]:
    """For each group of held-out images [n] the stacker picked on all other groups; the mean where there is none."""
    keys = np.unique(group).tolist()
    if len(keys) == 1 and stacker == "auto":
        return {keys[0]: "mean"}
    return {key: pick_stacker(stacker, held_out[group != key]) for key in keys}


def _column_by_group(
    table: pd.DataFrame, group: np.ndarray, kinds: dict[int, str], column: Callable[[str], str]
) -> np.ndarray:
    """Of each image the column of its group's stacker."""
    values = np.full(len(table), np.nan)
    for key, kind in kinds.items():
        values[group == key] = table[column(kind)].to_numpy()[group == key]
    return values


def pick_stacker(stacker: str, held_out: pd.DataFrame) -> str:
    """The stacker as set or, with auto, the best on these held-out rows by AUC, then by log-loss."""
    if stacker != "auto":
        return stacker
    rows, labels = held_out.assign(head=find_scoring_heads(held_out)), held_out["label"].to_numpy()

    def rank_kind(kind: str) -> tuple[float, float]:
        return round(fold_mean_auc(rows, kind) or 0.0, 3), -metrics.log_loss(labels, rows[kind].to_numpy())

    return max(KINDS, key=rank_kind)
