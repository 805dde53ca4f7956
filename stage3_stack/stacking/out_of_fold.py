"""All folds' stacks together: one table of held-out images, one of the images without a fold."""

from dataclasses import dataclass

import pandas as pd
from threadpoolctl import threadpool_limits

from cxr.errors import UsageError
from stage3_stack.config.files import STAGE1
from stage3_stack.config.stage import Stage
from stage3_stack.postprocessing.nesting import fold_of_images
from stage3_stack.stacking.cross_fitting import FoldStack, fit_fold_stack
from stage3_stack.stacking.fold_rows import FoldRows, read_fold_rows, sigmoid
from stage3_stack.stacking.tabular_features import Columns


@dataclass
class CombinedStacks:
    """All stackers' probabilities; tables are indexed by image_id, with a column for each member and each stacker."""

    held_out: pd.DataFrame
    """split, fold, subfold, label and probabilities by the models that did not see the image; in folds.csv's order"""
    new_rows: pd.DataFrame
    """split and probabilities, mean over folds, of unlabelled and test images"""
    stacks: dict[int, FoldStack]
    """By fold"""


def member_column(name: str) -> str:
    """The column of a member's probability."""
    return f"member {name}"


def uncalibrated_column(kind: str) -> str:
    """The column of a stacker's probability before calibration."""
    return f"uncalibrated {kind}"


def train_fold_stacks(stage: Stage, columns: Columns) -> CombinedStacks:
    """Train the stacks of all folds, one fold in memory at a time; columns: the tabular features.

    Raises UsageError or DataError as `read_fold_rows` does, and UsageError if an image is not predicted by all folds.
    """
    fold_tables, stacks = [], {}
    for fold in stage.unit.trained:
        rows = read_fold_rows(stage, fold, columns)
        with threadpool_limits(1):  # many small problems; and the same numbers whatever the machine's cores
            stacks[fold] = fit_fold_stack(rows, stage.settings, stage.unit.seed)
        _warn_of_untrained_heads(stacks[fold], rows)
        fold_tables.append(_build_fold_table(rows, stacks[fold], stage.member_names))
    table = pd.concat(fold_tables)
    is_held_out = table["split"] == "train"
    held_out_ids = fold_of_images(stage.prepared, stage.unit.trained).index
    held_out = table[is_held_out].set_index("image_id").loc[held_out_ids]
    return CombinedStacks(held_out, _average_over_folds(table[~is_held_out], len(fold_tables)), stacks)


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
    """Mean over folds of each image's probabilities; all folds must have predicted the image."""
    by_image = table.groupby("image_id")
    missing = by_image.size()[by_image.size() != fold_count]
    if len(missing):
        raise UsageError(
            f"{missing.index[0]} is predicted by {missing.iloc[0]} of {fold_count} folds; run {STAGE1} again"
        )
    means = by_image[table.columns.drop(["image_id", "split", "fold", "subfold", "label"]).tolist()].mean()
    return means.assign(split=by_image["split"].first())
