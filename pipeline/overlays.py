"""Overlays: held-out images with what a reader drew and what the networks found."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr import tables
from cxr.geometry import resize
from cxr.paths import Paths
from cxr.prepared import Prepared
from cxr.recipe import Recipe
from pipeline.figure import SKY, YELLOW, new_figure
from pipeline.known import MASK_STACK, Known, deciding, gather

TRUTH, FOUND = YELLOW, SKY
TRIED = 12  # images looked at for a false positive or negative: each is read whole


@dataclass(frozen=True)
class Example:
    """An image to show, and what it is an example of."""

    what: str
    known: Known


def overlays(recipe: Recipe, paths: Paths):
    """Held-out images: as a reader drew them, the segmenters' mean map, and the final mask."""
    examples = list(_examples(recipe, paths))
    if not examples:
        return None
    panels = [_drawn_by_hand]
    panels += [_mean_map] if any(example.known.maps for example in examples) else []
    panels += [_final] if any(example.known.final is not None for example in examples) else []
    title = f"{paths.dataset}, recipe {recipe.name}: held-out images\nyellow line: drawn by hand; blue: found"
    figure = new_figure(3.1 * len(examples), 3.35 * len(panels) + 1.1, title)
    axes = figure.subplots(len(panels), len(examples), squeeze=False)
    for row, panel in zip(axes, panels, strict=True):
        for axis, example in zip(row, examples, strict=True):
            axis.axis("off")
            panel(axis, example)
    return figure


def _examples(recipe: Recipe, paths: Paths) -> Iterator[Example]:
    """Lesions of typical size in each third of sizes, a false positive and a false negative; no image twice."""
    table = _held_out(recipe, paths)
    positives = table[table["label"] == 1].sort_values("mask_area")
    shown = set()
    for name, third in zip(("small", "middle", "large"), np.array_split(np.arange(len(positives)), 3), strict=True):
        if len(third):
            image_id = positives.index[third[len(third) // 2]]
            shown.add(image_id)
            yield Example(f"{name} lesion", gather(image_id, recipe, paths))
    if table["prob"].isna().all():
        return
    negatives = table[table["label"] == 0].sort_values(["positive", "prob"], ascending=False, kind="stable")
    missed = positives.sort_values(["positive", "mask_area"], ascending=[True, False], kind="stable")
    yield from _mistake("false positive", negatives, True, recipe, paths)
    yield from _mistake("false negative", missed.drop(index=list(shown)), False, recipe, paths)


def _held_out(recipe: Recipe, paths: Paths) -> pd.DataFrame:
    """label, mask_area, prob and positive of the images held out in the folds that were trained, by image_id."""
    prepared = Prepared(paths.prepared, paths.folds)
    folds = prepared.folds["fold"]
    table = prepared.manifest.loc[folds.index[folds.isin(recipe.trained)], ["label", "mask_area"]]
    stacked = paths.stage3 / "stacked.parquet"
    if not stacked.is_file():
        return table.assign(prob=np.nan, positive=False)
    probs = tables.read(stacked, tables.STACKED, "stage 3").set_index("image_id")[["prob", "positive"]]
    return table.join(probs, how="inner")


def _mistake(what: str, table: pd.DataFrame, wrong: bool, recipe: Recipe, paths: Paths) -> Iterator[Example]:
    """The first of the foremost rows whose final answer is `wrong`, if there is one."""
    for image_id, row in table[:TRIED].iterrows():
        known = gather(image_id, recipe, paths)
        answer = bool(row["positive"]) if known.final is None else bool(known.final.any())
        if answer == wrong:
            yield Example(what, known)
            return


def _show(axis, canvas: np.ndarray, title: str) -> None:
    axis.imshow(canvas, cmap="gray", vmin=0, vmax=255)
    axis.set_title(title, fontsize=8.5)


def _outline(axis, mask: np.ndarray | None) -> None:
    if mask is not None and mask.any():
        axis.contour(mask.astype(float), levels=[0.5], colors=[TRUTH], linewidths=0.9)


def _tint(axis, strength: np.ndarray) -> None:
    """Blue over the image, [height, width] of 0 (nothing) to 1."""
    from matplotlib.colors import to_rgb

    colour = np.broadcast_to(to_rgb(FOUND), (*strength.shape, 3))
    axis.imshow(np.dstack([colour, strength]))


def _drawn_by_hand(axis, example: Example) -> None:
    known = example.known
    size = f", {known.truth.mean():.1%} of the frame" if known.truth is not None and known.truth.any() else ""
    _show(axis, known.canvas, f"{example.what}{size}\n{_short(known.image_id)}\n{_probability(known)}")
    _outline(axis, known.truth)


def _short(image_id: str) -> str:
    """The end of a long id: it is what differs, and pipeline.show finds an image by a part of its id."""
    return image_id if len(image_id) <= 32 else f"... {image_id[-30:]}"


def _probability(known: Known) -> str:
    if known.stacked is None:
        return ""
    gate = "" if known.gate is None else f", gate {known.gate:.2f}"
    return f"probability {known.stacked:.2f}{gate}"


def _mean_map(axis, example: Example) -> None:
    known = example.known
    if not known.maps:
        return _show(axis, known.canvas, "no map")
    mean = resize(deciding(known), *known.canvas.shape)
    kind = MASK_STACK if MASK_STACK in known.maps else f"mean map of {len(known.maps)}"
    _show(axis, known.canvas, f"{kind}, highest {mean.max():.2f}")
    _tint(axis, np.clip(mean, 0, 1) * 0.8)
    _outline(axis, known.truth)


def _final(axis, example: Example) -> None:
    known = example.known
    if known.final is None:
        return _show(axis, known.canvas, "no final mask")
    _show(axis, known.canvas, f"final mask{'' if known.final.any() else ': empty'}{_overlap(known)}")
    _tint(axis, known.final * 0.6)
    _outline(axis, known.truth)


def _overlap(known: Known) -> str:
    if known.truth is None or not known.truth.any():
        return ""
    both = int((known.final & known.truth).sum())
    union = int((known.final | known.truth).sum())
    return f", Dice {2 * both / (union + both):.2f}, IoU {both / union:.2f}"
