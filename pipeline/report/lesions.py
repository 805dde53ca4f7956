"""How well the masks fit, by the lesion's size."""

import numpy as np
import pandas as pd

from evaluation.metrics import dice_of_areas
from pipeline.pictures.figure import BLUE, ORANGE, create_figure
from pipeline.report.blocks import Picture, PictureRow, embed_svg
from pipeline.run_files import RunFiles

SPLIT_TITLES = {"train": "held-out", "test": "test"}
MIN_LESIONS_PER_BIN, MAX_BINS = 8, 10  # of the bins by size whose medians are drawn


def build_blocks(run: RunFiles) -> list:
    """Dice of each image with a pneumothorax against its share of the image."""
    positives = run.case_table[run.case_table["label"] > 0.5]
    if not run.recipe.stage2:
        return ["The recipe has no segmenters: there are no masks to judge."]
    pictures = [_draw_scatter(rows, SPLIT_TITLES[split]) for split, rows in positives.groupby("split", sort=False)]
    missed_text = ", ".join(
        f"{(rows['overlap'] == 0).mean():.1%} of the {len(rows):,} {SPLIT_TITLES[split]}"
        for split, rows in positives.groupby("split", sort=False)
    )
    return [PictureRow(pictures), f"Missed altogether (Dice 0): {missed_text} lesions."]


def _draw_scatter(cases: pd.DataFrame, split_title: str) -> Picture:
    from matplotlib.ticker import LogLocator, NullFormatter

    share = 100 * cases["share"].to_numpy()
    dice = dice_of_areas(*(cases[name].to_numpy() for name in ("truth", "found", "overlap")))
    figure = create_figure(4.6, 4.2, f"Dice by size, {split_title}")
    axis = figure.subplots()
    axis.scatter(share, dice, s=9, color=BLUE, alpha=0.35, linewidths=0, rasterized=True)
    _plot_medians(axis, share, dice)
    axis.set(xscale="log", xlabel="lesion, % of the image", ylabel="Dice", ylim=(-0.03, 1.03))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    alt = f"Dice of each {split_title} image with a pneumothorax against the lesion's share of the image"
    return embed_svg(figure, alt)


def _plot_medians(axis, share: np.ndarray, dice: np.ndarray) -> None:
    """The median Dice of bins by size, as a line."""
    bins = np.array_split(np.argsort(share, kind="stable"), np.clip(len(share) // MIN_LESIONS_PER_BIN, 1, MAX_BINS))
    medians = [(np.median(share[rows]), np.median(dice[rows])) for rows in bins]
    label = f"medians of {len(bins)} bins by size, equal in number"
    axis.plot(*zip(*medians, strict=True), "o-", color=ORANGE, markersize=4, label=label)
