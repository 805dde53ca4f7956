"""Pictures of a run: class balance, overlays of masks on images, curves of the trainings.

[RECIPE=<recipe>] [DATA=<folder>] python -m pipeline.pictures
"""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr import runs
from cxr.errors import run_main
from cxr.files import write_atomically
from cxr.paths import Paths
from cxr.recipe import Recipe, load_recipe_and_paths
from pipeline.pictures.curves import draw_curves
from pipeline.pictures.figure import ORANGE, SKY, create_figure
from pipeline.pictures.overlays import draw_overlays
from pipeline.report.report_steps import PICTURE_NAMES, build_picture_step
from pipeline.run_files import RunFiles
from pipeline.stages import list_outputs

POSITIVE_COLOUR, NEGATIVE_COLOUR = ORANGE, SKY


def main() -> None:
    recipe, paths = load_recipe_and_paths()
    step = build_picture_step(recipe, paths)
    with step.record_run(step.identity), runs.name_damaged_inputs(list_outputs(recipe, paths)):
        print("\n".join(map(str, draw_pictures(recipe, paths))))


def draw_pictures(recipe: Recipe, paths: Paths) -> list[Path]:
    """Write class_balance.png, overlays.png and curves.png into the run's folder pictures/; returns those drawn.

    A picture whose data is missing is not drawn, and its old file is removed. Raises UsageError where the data is not
    prepared.
    """
    run, drawn_paths = RunFiles(recipe, paths), []
    for name, draw_figure in zip(PICTURE_NAMES, (draw_class_balance, draw_overlays, draw_curves), strict=True):
        path, figure = paths.run_folder / "pictures" / name, draw_figure(run)
        if figure is None:
            path.unlink(missing_ok=True)
            continue
        with write_atomically(path) as temporary:
            figure.savefig(temporary, dpi=110, format="png")
        drawn_paths.append(path)
    return drawn_paths


def draw_class_balance(run: RunFiles):
    """A pie of all labelled images with and without a pneumothorax, and a bar for each fold; None without labels."""
    manifest = run.prepared.manifest
    labels = manifest["label"].dropna()
    if labels.empty:
        return None
    splits = manifest["split"].value_counts()
    unlabelled_counts = ", ".join(f"{splits.get(name, 0):,} {name}" for name in ("unlabelled", "test"))
    figure = create_figure(9.5, 4.2, f"{run.paths.dataset_name}: {len(labels):,} labelled images ({unlabelled_counts})")
    pie_axis, bars_axis = figure.subplots(1, 2, width_ratios=(1, 1.5))
    _draw_pie(pie_axis, int(labels.sum()), len(labels))
    _draw_fold_bars(bars_axis, run.prepared.folds["fold"], labels)
    return figure


def _draw_pie(axis, positive: int, total: int) -> None:
    names = (f"pneumothorax\n{positive:,}", f"none\n{total - positive:,}")
    wedge_style = {"edgecolor": "white", "linewidth": 2}
    axis.pie(
        (positive, total - positive), labels=names, colors=(POSITIVE_COLOUR, NEGATIVE_COLOUR), autopct="%.1f%%",
        startangle=90, counterclock=False, wedgeprops=wedge_style, textprops={"fontsize": 9},
    )  # fmt: skip
    axis.set_title("all", fontsize=10)


def _draw_fold_bars(axis, folds: pd.Series, labels: pd.Series) -> None:
    """Images of each fold, those with a pneumothorax first; folds and labels by image_id."""
    counts = pd.DataFrame({"all": folds.value_counts(), "positive": folds[labels[folds.index] == 1].value_counts()})
    counts = counts.fillna(0).astype(int).sort_index()
    positions = np.arange(len(counts))
    axis.barh(positions, counts["positive"], color=POSITIVE_COLOUR, label="pneumothorax")
    negatives = counts["all"] - counts["positive"]
    axis.barh(positions, negatives, left=counts["positive"], color=NEGATIVE_COLOUR, label="none")
    for position, (total, positive) in enumerate(counts.itertuples(index=False)):
        label = f"{positive:,} of {total:,} ({positive / total:.1%})"
        axis.text(total * 1.01, position, label, va="center", fontsize=8)
    axis.set(xlim=(0, counts["all"].max() * 1.4), ylim=(len(counts) - 0.4, -0.6), xlabel="images")
    axis.set_yticks(positions, [f"fold {fold}" for fold in counts.index], fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title("by fold", fontsize=10)


if __name__ == "__main__":
    run_main(main)
