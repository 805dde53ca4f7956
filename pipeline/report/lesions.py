"""How well the masks fit, by the lesion's size."""

import numpy as np
import pandas as pd

from cxr.metrics import dice_of_areas
from pipeline.figure import BLUE, ORANGE, new_figure
from pipeline.report.blocks import Picture, Row, vector
from pipeline.report.sources import Sources

PARTS = {"train": "held-out", "test": "test"}
LEAST, MOST = 8, 10  # lesions of a part whose medians are drawn; parts


def blocks(run: Sources) -> list:
    """Dice of each image with a pneumothorax against its share of the image."""
    positives = run.cases[run.cases["label"] > 0.5]
    if not run.recipe.stage2:
        return ["The recipe has no segmenters: there are no masks to judge."]
    pictures = [_scatter(rows, PARTS[split]) for split, rows in positives.groupby("split", sort=False)]
    missed = ", ".join(
        f"{(rows['overlap'] == 0).mean():.1%} of the {len(rows):,} {PARTS[split]}"
        for split, rows in positives.groupby("split", sort=False)
    )
    return [Row(pictures), f"Missed altogether (Dice 0): {missed} lesions."]


def _scatter(cases: pd.DataFrame, part: str) -> Picture:
    from matplotlib.ticker import LogLocator, NullFormatter

    share = 100 * cases["share"].to_numpy()
    dice = dice_of_areas(*(cases[name].to_numpy() for name in ("truth", "found", "overlap")))
    figure = new_figure(4.6, 4.2, f"Dice by size, {part}")
    axis = figure.subplots()
    axis.scatter(share, dice, s=9, color=BLUE, alpha=0.35, linewidths=0, rasterized=True)
    parts = np.array_split(np.argsort(share, kind="stable"), np.clip(len(share) // LEAST, 1, MOST))
    medians = [(np.median(share[rows]), np.median(dice[rows])) for rows in parts]
    label = f"medians of {len(parts)} parts by size, equal in number"
    axis.plot(*zip(*medians, strict=True), "o-", color=ORANGE, markersize=4, label=label)
    axis.set(xscale="log", xlabel="lesion, % of the image", ylabel="Dice", ylim=(-0.03, 1.03))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    return vector(figure, f"Dice of each {part} image with a pneumothorax against the lesion's share of the image")
