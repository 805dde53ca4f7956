"""Curves of the trainings: loss, learning rate and what was watched, by epoch."""

from dataclasses import dataclass

import pandas as pd

from cxr.files import read_json
from cxr.paths import Paths
from cxr.recipe import Recipe
from pipeline.figure import BLUE, GREEN, ORANGE, PINK, RED, SKY, new_figure

FOLDS = (BLUE, ORANGE, GREEN, PINK, SKY, RED, "#000000", "#999999")
LEAST_SPAN = 0.1  # of an axis of scores, so that noise does not look like a trend
CURVES = {
    "loss": "training loss", "lr": "learning rate", "score": "watched score",
    "positives_dice": "Dice, positives", "positives_iou": "IoU, positives",
}  # fmt: skip
"""Columns of history.csv that are drawn, where they are there."""


@dataclass(frozen=True)
class History:
    """One training: its rows of history.csv, and the epochs whose weights were kept, where known."""

    rows: pd.DataFrame
    kept: list[int]


def curves(recipe: Recipe, paths: Paths):
    """A row for each classifier and segmenter, a line for each fold; rings are the epochs that were kept."""
    members = [(1, member) for member in recipe.stage1] + [(2, member) for member in recipe.stage2]
    every = {f"stage {stage}\n{member}": _histories(paths, stage, member, recipe.trained) for stage, member in members}
    found = {name: histories for name, histories in every.items() if histories}
    columns = [name for name in CURVES if any(name in h.rows for hs in found.values() for h in hs.values())]
    if not columns:
        return None
    title = f"{paths.dataset}, recipe {recipe.name}: trainings by epoch; rings are the epochs that were kept"
    figure = new_figure(2.9 * len(columns) + 0.6, 2.1 * len(found) + 1.1, title)
    axes = figure.subplots(len(found), len(columns), squeeze=False)
    for row, (name, histories) in zip(axes, found.items(), strict=True):
        for axis, column in zip(row, columns, strict=True):
            _curve(axis, column, histories)
        row[0].set_ylabel(name, fontsize=9)
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(CURVES[column], fontsize=10)
    _legend(figure, recipe)
    return figure


def _histories(paths: Paths, stage: int, member: str, folds: list[int]) -> dict[int, History]:
    """The trainings of a member that have ended, by fold."""
    found = {}
    for fold in folds:
        folder = paths.unit(stage, member, fold)
        if (folder / "history.csv").is_file():
            record = read_json(folder / "run.json") or {}
            kept = record.get("metrics", {}).get("kept_epochs", [])
            found[fold] = History(pd.read_csv(folder / "history.csv"), kept)
    return found


def _curve(axis, column: str, histories: dict[int, History]) -> None:
    from matplotlib.ticker import MaxNLocator

    for fold, history in histories.items():
        if column not in history.rows:
            continue
        rows, colour = history.rows, FOLDS[fold % len(FOLDS)]
        axis.plot(rows["epoch"], rows[column], color=colour, linewidth=1.4, marker=".", markersize=4)
        kept = rows[rows["epoch"].isin(history.kept)]
        axis.plot(kept["epoch"], kept[column], "o", color=colour, markersize=7, fillstyle="none")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if column == "lr":
        axis.set_ylim(bottom=0)
    elif column != "loss":
        low, high = axis.get_ylim()
        spare = max(LEAST_SPAN - (high - low), 0) / 2
        axis.set_ylim(low - spare, high + spare)
    if not axis.lines:  # a classifier has no Dice
        axis.axis("off")


def _legend(figure, recipe: Recipe) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=FOLDS[fold % len(FOLDS)], label=f"fold {fold}") for fold in recipe.trained]
    figure.legend(handles=lines, loc="outside lower left", ncols=len(lines), fontsize=8, frameon=False)
