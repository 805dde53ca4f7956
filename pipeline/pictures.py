"""Pictures of a run: class balance, overlays of masks on images, curves of the trainings.

[RECIPE=<recipe>] [DATA=<folder>] python -m pipeline.pictures
"""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr import runs
from cxr.errors import run_main
from cxr.files import replacing
from cxr.paths import Paths
from cxr.prepared import Prepared
from cxr.recipe import Recipe, chosen
from pipeline.curves import curves
from pipeline.figure import ORANGE, SKY, new_figure
from pipeline.overlays import overlays
from pipeline.report.units import PICTURES, picture_unit
from pipeline.stages import every_output

POSITIVE, NEGATIVE = ORANGE, SKY


def main() -> None:
    recipe, paths = chosen()
    unit = picture_unit(recipe, paths)
    with unit.recorded(unit.identity), runs.damage_named(every_output(recipe, paths)):
        print("\n".join(map(str, draw(recipe, paths))))


def draw(recipe: Recipe, paths: Paths) -> list[Path]:
    """Write class_balance.png, overlays.png and curves.png into the run's folder pictures/; returns those drawn.

    What a run has nothing of yet is not drawn, and its old picture is removed. Raises UsageError where the data is
    not prepared.
    """
    drawn = []
    for name, drawer in zip(PICTURES, (class_balance, overlays, curves), strict=True):
        path, figure = paths.run / "pictures" / name, drawer(recipe, paths)
        if figure is None:
            path.unlink(missing_ok=True)
            continue
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=110, format="png")
        drawn.append(path)
    return drawn


def class_balance(recipe: Recipe, paths: Paths):
    """A pie of all labelled images with and without a pneumothorax, and a bar for each fold."""
    prepared = Prepared(paths.prepared, paths.folds)
    manifest = prepared.manifest
    labels = manifest["label"].dropna()
    if labels.empty:
        return None
    splits = manifest["split"].value_counts()
    without = ", ".join(f"{splits.get(name, 0):,} {name}" for name in ("unlabelled", "test"))
    figure = new_figure(9.5, 4.2, f"{paths.dataset}: {len(labels):,} labelled images ({without})")
    pie, bars = figure.subplots(1, 2, width_ratios=(1, 1.5))
    _pie(pie, int(labels.sum()), len(labels))
    _fold_bars(bars, prepared.folds["fold"], labels)
    return figure


def _pie(axis, positive: int, total: int) -> None:
    names = (f"pneumothorax\n{positive:,}", f"none\n{total - positive:,}")
    wedge = {"edgecolor": "white", "linewidth": 2}
    axis.pie(
        (positive, total - positive), labels=names, colors=(POSITIVE, NEGATIVE), autopct="%.1f%%", startangle=90,
        counterclock=False, wedgeprops=wedge, textprops={"fontsize": 9},
    )  # fmt: skip
    axis.set_title("all", fontsize=10)


def _fold_bars(axis, folds: pd.Series, labels: pd.Series) -> None:
    """Images of each fold, those with a pneumothorax first."""
    counts = pd.DataFrame({"all": folds.value_counts(), "positive": folds[labels[folds.index] == 1].value_counts()})
    counts = counts.fillna(0).astype(int).sort_index()
    places = np.arange(len(counts))
    axis.barh(places, counts["positive"], color=POSITIVE, label="pneumothorax")
    axis.barh(places, counts["all"] - counts["positive"], left=counts["positive"], color=NEGATIVE, label="none")
    for place, (total, positive) in enumerate(counts.itertuples(index=False)):
        axis.text(total * 1.01, place, f"{positive:,} of {total:,} ({positive / total:.1%})", va="center", fontsize=8)
    axis.set(xlim=(0, counts["all"].max() * 1.4), ylim=(len(counts) - 0.4, -0.6), xlabel="images")
    axis.set_yticks(places, [f"fold {fold}" for fold in counts.index], fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title("by fold", fontsize=10)


if __name__ == "__main__":
    run_main(main)
