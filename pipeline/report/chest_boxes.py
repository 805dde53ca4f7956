"""How well the found chest boxes agree with held-out hand-drawn ones."""

from collections import Counter
from pathlib import Path

import numpy as np

from cxr import box_files, boxes, runs
from cxr.errors import UsageError
from cxr.geometry import iou
from cxr.metrics import shown
from pipeline.figure import BLUE, RED, new_figure
from pipeline.report.blocks import Picture, Row, Table, vector
from pipeline.report.sources import Sources
from stage0_bbox.config import label_files, read

METRICS = {
    "hand_boxes": "hand-drawn boxes, each found by a model that did not see its patient",
    "iou_mean": "found, before the margin: mean IoU", "iou_p5": "– 5th percentile",
    "iou_with_margin": "as written, with the margin: mean IoU", "iou_mean_box": "the mean box of the training labels",
    "fallbacks": "share of all images that got that mean box", "missed_with_margin": "share of lesions' pixels outside",
}  # fmt: skip


def blocks(run: Sources) -> list:
    """Stage 0's figures, and the overlaps one by one."""
    metrics = runs.metrics(run.paths.stage0)
    if metrics is None:
        raise UsageError("stage0/run.json is missing or damaged; it is made by: " + boxes.STEP)
    rows = [[title, _text(metrics.get(name))] for name, title in METRICS.items() if name in metrics]
    overlaps = of_hand_boxes(run)
    what = "as written, with the margin, with the hand-drawn ones of training images"
    pictures = [Row([_histogram(overlaps)])] if len(overlaps) else ["No hand-drawn box of a training image was found."]
    return [*pictures, f"Overlap (IoU) of the found boxes, {what}.", Table(["", ""], rows)]


def _text(value: float | int | None) -> str:
    return f"{value:,}" if isinstance(value, int) else shown(value)


def of_hand_boxes(run: Sources) -> np.ndarray:
    """IoU of each hand-drawn training box with the found one [n]; an edited box is none that was found."""
    hand = hand_boxes(run)
    found = boxes.read_table(run.paths.boxes)
    found = boxes.by_image(found[found["source"] != "edited"])
    folds = set(run.prepared.ids("train")) | set(run.prepared.ids("unlabelled"))
    keys = sorted(hand.keys() & found.keys() & folds)
    return iou(np.array([hand[key] for key in keys]), np.array([found[key] for key in keys])) if keys else np.empty(0)


def hand_boxes(run: Sources) -> dict[str, tuple[float, float, float, float]]:
    """xmin, ymin, xmax, ymax by image_id, of the label file that stage 0 is scored against; empty without one.

    Raises DataError where the file is not as stage 0 read it.
    """
    detector = read(run.recipe.stage0)
    path = next((p for p in label_files(run.paths, detector) if p.name == Path(detector.labels[0]).name), None)
    if path is None:
        return {}
    frames = run.prepared.manifest.loc[run.prepared.manifest["split"] != "test", ["width", "height"]]
    sizes = dict(zip(frames.index, frames.itertuples(index=False, name=None), strict=True))
    return {key: tuple(box) for key, box in box_files.of_images(path, sizes, Counter()).items()}


def _histogram(overlaps: np.ndarray) -> Picture:
    figure = new_figure(4.6, 3.2, f"IoU of {len(overlaps):,} found and hand-drawn boxes")
    axis = figure.subplots()
    axis.hist(overlaps, np.linspace(0, 1, 41), color=BLUE)
    axis.axvline(overlaps.mean(), color=RED, linewidth=1, linestyle="--", label=f"mean {shown(overlaps.mean())}")
    axis.set(xlabel="IoU", ylabel="boxes", xlim=(min(0.5, overlaps.min()), 1))
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False, loc="upper left")
    return vector(figure, "histogram of the overlap of found and hand-drawn chest boxes")
