"""How well the found chest boxes agree with held-out hand-drawn ones."""

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
    "hand_boxes": "hand-drawn boxes, each found by a model that did not see its patient",
    "iou_mean": "found, before the margin: mean IoU", "iou_p5": "– 5th percentile",
    "iou_with_margin": "as written, with the margin: mean IoU", "iou_mean_box": "the mean box of the training labels",
    "fallbacks": "share of all images that got that mean box", "missed_with_margin": "share of lesions' pixels outside",
}  # fmt: skip


def build_blocks(run: RunFiles) -> list:
    """Stage 0's figures, and the overlaps one by one."""
    metrics = run.stage0_metrics
    rows = [[title, _format_number(metrics.get(name))] for name, title in BOX_METRICS.items() if name in metrics]
    overlaps = measure_box_overlaps(run)
    box_description = "as written, with the margin, with the hand-drawn ones of training images"
    pictures = (
        [PictureRow([_draw_histogram(overlaps)])]
        if len(overlaps)
        else ["No hand-drawn box of a training image was found."]
    )
    return [*pictures, f"Overlap (IoU) of the found boxes, {box_description}.", Table(["", ""], rows)]


def _format_number(value: float | int | None) -> str:
    return f"{value:,}" if isinstance(value, int) else format_metric(value)


def measure_box_overlaps(run: RunFiles) -> np.ndarray:
    """IoU of each hand-drawn training box with the found one [n]; an edited box is none that was found."""
    hand_drawn = read_hand_boxes(run)
    found_boxes = box_table.index_edges_by_image(run.chest_boxes[run.chest_boxes["source"] != "edited"])
    non_test_ids = set(run.prepared.list_ids("train")) | set(run.prepared.list_ids("unlabelled"))
    common_ids = sorted(hand_drawn.keys() & found_boxes.keys() & non_test_ids)
    return (
        box_iou(
            np.array([hand_drawn[image_id] for image_id in common_ids]),
            np.array([found_boxes[image_id] for image_id in common_ids]),
        )
        if common_ids
        else np.empty(0)
    )


def read_hand_boxes(run: RunFiles) -> dict[str, tuple[float, float, float, float]]:
    """xmin, ymin, xmax, ymax by image_id, of the label file that stage 0 is scored against; empty without one.

    Raises DataError where the file is not as stage 0 read it.
    """
    detector = read_detector_settings(run.recipe.stage0)
    path = next(
        (
            label_file
            for label_file in find_label_files(run.paths, detector)
            if label_file.name == Path(detector.labels[0]).name
        ),
        None,
    )
    if path is None:
        return {}
    frames = run.prepared.manifest.loc[run.prepared.manifest["split"] != "test", ["width", "height"]]
    sizes = dict(zip(frames.index, frames.itertuples(index=False, name=None), strict=True))
    return {image_id: tuple(box) for image_id, box in box_files.read_chest_boxes(path, sizes, Counter()).items()}


def _draw_histogram(overlaps: np.ndarray) -> Picture:
    figure = create_figure(4.6, 3.2, f"IoU of {len(overlaps):,} found and hand-drawn boxes")
    axis = figure.subplots()
    axis.hist(overlaps, np.linspace(0, 1, 41), color=BLUE)
    axis.axvline(
        overlaps.mean(), color=RED, linewidth=1, linestyle="--", label=f"mean {format_metric(overlaps.mean())}"
    )
    axis.set(xlabel="IoU", ylabel="boxes", xlim=(min(0.5, overlaps.min()), 1))
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False, loc="upper left")
    return embed_svg(figure, "histogram of the overlap of found and hand-drawn chest boxes")
