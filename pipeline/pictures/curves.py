"""Curves of the trainings: loss, learning rate and validation scores by epoch."""

from cxr.recipe import Recipe
from pipeline.pictures.figure import BLUE, GREEN, ORANGE, PINK, RED, SKY, create_figure
from pipeline.run_files import RunFiles, TrainingHistory

FOLD_COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, RED, "#000000", "#999999")
MIN_SCORE_SPAN = 0.1  # least height of an axis of scores, so that noise does not look like a trend
CURVE_TITLES = {
    "loss": "training loss", "lr": "learning rate", "score": "validation score",
    "positives_dice": "Dice, positives", "positives_iou": "IoU, positives",
}  # fmt: skip
"""Columns of history.csv that are drawn, if present."""


def draw_curves(run: RunFiles):
    """A row for each classifier and segmenter, a line for each fold, rings at kept epochs; None before any training."""
    histories_by_member = _read_all_histories(run)
    columns = [name for name in CURVE_TITLES if _has_column(histories_by_member, name)]
    if not columns:
        return None
    title = (
        f"{run.paths.dataset_name}, recipe {run.recipe.name}: trainings by epoch; rings are the epochs that were kept"
    )
    figure = create_figure(2.9 * len(columns) + 0.6, 2.1 * len(histories_by_member) + 1.1, title)
    axes = figure.subplots(len(histories_by_member), len(columns), squeeze=False)
    for row, (name, histories) in zip(axes, histories_by_member.items(), strict=True):
        for axis, column in zip(row, columns, strict=True):
            _draw_curve(axis, column, histories)
        row[0].set_ylabel(name, fontsize=9)
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(CURVE_TITLES[column], fontsize=10)
    _add_legend(figure, run.recipe)
    return figure


def _read_all_histories(run: RunFiles) -> dict[str, dict[int, TrainingHistory]]:
    """The trainings of each member that has some, by fold."""
    members = [(1, member) for member in run.recipe.stage1] + [(2, member) for member in run.recipe.stage2]
    histories = {f"stage {stage}\n{member}": _read_histories(run, stage, member) for stage, member in members}
    return {name: histories_by_fold for name, histories_by_fold in histories.items() if histories_by_fold}


def _read_histories(run: RunFiles, stage: int, member: str) -> dict[int, TrainingHistory]:
    """The trainings of a member that have ended, by fold."""
    histories = {fold: run.read_training_history(stage, member, fold) for fold in run.recipe.folds_to_train}
    return {fold: history for fold, history in histories.items() if history is not None}


def _has_column(histories_by_member: dict[str, dict[int, TrainingHistory]], name: str) -> bool:
    return any(name in history.rows for histories in histories_by_member.values() for history in histories.values())


def _draw_curve(axis, column: str, histories: dict[int, TrainingHistory]) -> None:
    for fold, history in histories.items():
        if column not in history.rows:
            continue
        rows, colour = history.rows, FOLD_COLOURS[fold % len(FOLD_COLOURS)]
        axis.plot(rows["epoch"], rows[column], color=colour, linewidth=1.4, marker=".", markersize=4)
        kept_rows = rows[rows["epoch"].isin(history.kept_epochs)]
        axis.plot(kept_rows["epoch"], kept_rows[column], "o", color=colour, markersize=7, fillstyle="none")
    _style_axis(axis, column)
    if not axis.lines:  # a classifier has no Dice
        axis.axis("off")


def _style_axis(axis, column: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if column == "lr":
        axis.set_ylim(bottom=0)
    elif column != "loss":
        low, high = axis.get_ylim()
        padding = max(MIN_SCORE_SPAN - (high - low), 0) / 2
        axis.set_ylim(low - padding, high + padding)


def _add_legend(figure, recipe: Recipe) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=FOLD_COLOURS[fold % len(FOLD_COLOURS)], label=f"fold {fold}")
        for fold in recipe.folds_to_train
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), fontsize=8, frameon=False)
