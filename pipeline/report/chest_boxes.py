"""How well the chest boxes of stage 0 agree with hand-drawn ones."""

from collections import Counter
from pathlib import Path

import numpy as np

from cxr.datasets import box_files, box_table
from cxr.imaging.geometry import box_iou
from evaluation.metrics import format_metric
from pipeline.pictures.figure import BLUE, RED, create_figure
from pipeline.report.blocks import Picture, PictureRow, Table, embed_svg
from pipeline.run_files import RunFiles
from stage0_bbox.config import find_label_files, read_detector_settings

BOX_METRICS = {
    "hand_boxes": "hand-drawn boxes, each predicted by a model that did not see its patient",
    "iou_mean": "predicted, before the margin: mean IoU", "iou_p5": "– 5th percentile",
    "iou_with_margin": "as written, with the margin: mean IoU", "iou_mean_box": "the mean box of the training labels",
    "fallbacks": "share of all images that got that mean box", "missed_with_margin": "share of lesions' pixels outside",
}  # fmt: skip


def build_blocks(run: RunFiles) -> list:
    """A histogram of the overlaps, and stage 0's metrics."""
    metrics = run.stage0_metrics
    rows = [[title, _format_number(metrics.get(name))] for name, title in BOX_METRICS.items() if name in metrics]
    overlaps = measure_box_overlaps(run)
    box_description = "as written, with the margin, with the hand-drawn ones of training images"
    picture = PictureRow([_draw_histogram(overlaps)]) if len(overlaps) else "No training image has both boxes."
    return [picture, f"Overlap (IoU) of the predicted boxes, {box_description}.", Table(["", ""], rows)]


def _format_number(value: float | int | None) -> str:
    return f"{value:,}" if isinstance(value, int) else format_metric(value)


def measure_box_overlaps(run: RunFiles) -> np.ndarray:
    """IoU of each hand-drawn training box with the predicted one, [n]; edited boxes are not counted as predicted."""
    hand_drawn = read_hand_boxes(run)
    predicted_boxes = box_table.index_edges_by_image(run.chest_boxes[run.chest_boxes["source"] != "edited"])
    non_test_ids = set(run.prepared.list_ids("train")) | set(run.prepared.list_ids("unlabelled"))
    common_ids = sorted(hand_drawn.keys() & predicted_boxes.keys() & non_test_ids)
    if not common_ids:
        return np.empty(0)
    return box_iou(*(np.array([boxes[image_id] for image_id in common_ids]) for boxes in (hand_drawn, predicted_boxes)))


def read_hand_boxes(run: RunFiles) -> dict[str, tuple[float, float, float, float]]:
    """The boxes of the label file that stage 0 is scored against: (xmin, ymin, xmax, ymax) in pixels, by image_id.

    Empty without such a file. Raises DataError where its format is not known.
    """
    detector = read_detector_settings(run.recipe.stage0)
    file_name = Path(detector.labels[0]).name
    path = next((path for path in find_label_files(run.paths, detector) if path.name == file_name), None)
    if path is None:
        return {}
    frames = run.prepared.manifest.loc[run.prepared.manifest["split"] != "test", ["width", "height"]]
    sizes = dict(zip(frames.index, frames.itertuples(index=False, name=None), strict=True))
    return {image_id: tuple(box) for image_id, box in box_files.read_chest_boxes(path, sizes, Counter()).items()}


def _draw_histogram(overlaps: np.ndarray) -> Picture:
    figure = create_figure(4.6, 3.2, f"IoU of {len(overlaps):,} predicted and hand-drawn boxes")
    axis = figure.subplots()
    axis.hist(overlaps, np.linspace(0, 1, 41), color=BLUE)
    mean_label = f"mean {format_metric(overlaps.mean())}"
    axis.axvline(overlaps.mean(), color=RED, linewidth=1, linestyle="--", label=mean_label)
    axis.set(xlabel="IoU", ylabel="boxes", xlim=(min(0.5, overlaps.min()), 1))
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False, loc="upper left")
    return embed_svg(figure, "histogram of the overlap of predicted and hand-drawn chest boxes")
