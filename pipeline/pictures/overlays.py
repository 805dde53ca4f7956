"""Overlays: held-out images with the hand-drawn and the predicted masks."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.imaging.geometry import resize_image
from pipeline.pictures.figure import SKY, YELLOW, create_figure
from pipeline.pictures.image_record import MASK_STACK, ImageRecord, compute_final_prob_map, gather_image_record
from pipeline.run_files import RunFiles

TRUTH_COLOUR, PREDICTION_COLOUR = YELLOW, SKY
MAX_TRIED_IMAGES = 12  # until a false positive or negative is found: all files of each are read


@dataclass(frozen=True)
class Example:
    """An image to show, with the title of what it is an example of."""

    title: str
    record: ImageRecord


def draw_overlays(run: RunFiles):
    """Held-out images: the hand-drawn mask, the segmenters' mean map and the final mask; None without such images."""
    examples = list(_find_examples(run))
    if not examples:
        return None
    panels = [_draw_truth_panel]
    panels += [_draw_map_panel] if any(example.record.prob_maps for example in examples) else []
    panels += [_draw_final_panel] if any(example.record.final_mask is not None for example in examples) else []
    title = f"{run.paths.dataset_name}, recipe {run.recipe.name}: held-out images"
    title += "\nyellow line: drawn by hand; blue: predicted"
    figure = create_figure(3.1 * len(examples), 3.35 * len(panels) + 1.1, title)
    axes = figure.subplots(len(panels), len(examples), squeeze=False)
    for row, draw_panel in zip(axes, panels, strict=True):
        for axis, example in zip(row, examples, strict=True):
            axis.axis("off")
            draw_panel(axis, example)
    return figure


def _find_examples(run: RunFiles) -> Iterator[Example]:
    """The median lesion of each third of sizes, a false positive and a false negative; no image twice."""
    table = _build_held_out_table(run)
    positives = table[table["label"] == 1].sort_values("mask_area")
    shown_ids = set()
    for name, third in zip(("small", "middle", "large"), np.array_split(np.arange(len(positives)), 3), strict=True):
        if len(third):
            image_id = positives.index[third[len(third) // 2]]
            shown_ids.add(image_id)
            yield Example(f"{name} lesion", gather_image_record(image_id, run))
    if table["prob"].isna().all():
        return
    negatives = table[table["label"] == 0].sort_values(["positive", "prob"], ascending=False, kind="stable")
    likely_missed = positives.sort_values(["positive", "mask_area"], ascending=[True, False], kind="stable")
    yield from _find_mistake("false positive", negatives, True, run)
    yield from _find_mistake("false negative", likely_missed.drop(index=list(shown_ids)), False, run)


def _build_held_out_table(run: RunFiles) -> pd.DataFrame:
    """label, mask_area, prob and positive of the images held out in the folds that were trained, by image_id."""
    folds = run.prepared.folds["fold"]
    held_out_ids = folds.index[folds.isin(run.recipe.folds_to_train)]
    table = run.prepared.manifest.loc[held_out_ids, ["label", "mask_area"]]
    if run.stacked_table is None:
        return table.assign(prob=np.nan, positive=False)
    return table.join(run.stacked_table[["prob", "positive"]], how="inner")


def _find_mistake(title: str, table: pd.DataFrame, wrong_answer: bool, run: RunFiles) -> Iterator[Example]:
    """The first of the table's top rows whose prediction equals `wrong_answer`, if any."""
    for image_id, row in table[:MAX_TRIED_IMAGES].iterrows():
        record = gather_image_record(image_id, run)
        predicted_positive = bool(row["positive"]) if record.final_mask is None else bool(record.final_mask.any())
        if predicted_positive == wrong_answer:
            yield Example(title, record)
            return


def _show_image(axis, canvas: np.ndarray, title: str) -> None:
    axis.imshow(canvas, cmap="gray", vmin=0, vmax=255)
    axis.set_title(title, fontsize=8.5)


def _outline_mask(axis, mask: np.ndarray | None) -> None:
    if mask is not None and mask.any():
        axis.contour(mask.astype(float), levels=[0.5], colors=[TRUTH_COLOUR], linewidths=0.9)


def _tint_area(axis, strength: np.ndarray) -> None:
    """Blue over the image, [height, width] of 0 (nothing) to 1."""
    from matplotlib.colors import to_rgb

    colour = np.broadcast_to(to_rgb(PREDICTION_COLOUR), (*strength.shape, 3))
    axis.imshow(np.dstack([colour, strength]))


def _draw_truth_panel(axis, example: Example) -> None:
    record = example.record
    title = example.title
    if record.truth_mask is not None and record.truth_mask.any():
        title += f", {record.truth_mask.mean():.1%} of the frame"
    _show_image(axis, record.canvas, f"{title}\n{_shorten_id(record.image_id)}\n{_format_probability(record)}")
    _outline_mask(axis, record.truth_mask)


def _shorten_id(image_id: str) -> str:
    """The end of a long id: ids differ there, and pipeline.show finds an image by a part of its id."""
    return image_id if len(image_id) <= 32 else f"... {image_id[-30:]}"


def _format_probability(record: ImageRecord) -> str:
    if record.stacked_prob is None:
        return ""
    threshold_text = "" if record.probability_threshold is None else f", threshold {record.probability_threshold:.2f}"
    return f"probability {record.stacked_prob:.2f}{threshold_text}"


def _draw_map_panel(axis, example: Example) -> None:
    record = example.record
    if not record.prob_maps:
        return _show_image(axis, record.canvas, "no map")
    prob_map = resize_image(compute_final_prob_map(record), *record.canvas.shape)
    map_name = MASK_STACK if MASK_STACK in record.prob_maps else f"mean map of {len(record.prob_maps)}"
    _show_image(axis, record.canvas, f"{map_name}, highest {prob_map.max():.2f}")
    _tint_area(axis, np.clip(prob_map, 0, 1) * 0.8)
    _outline_mask(axis, record.truth_mask)


def _draw_final_panel(axis, example: Example) -> None:
    record = example.record
    if record.final_mask is None:
        return _show_image(axis, record.canvas, "no final mask")
    title = "final mask" if record.final_mask.any() else "final mask: empty"
    _show_image(axis, record.canvas, title + _format_overlap(record))
    _tint_area(axis, record.final_mask * 0.6)
    _outline_mask(axis, record.truth_mask)


def _format_overlap(record: ImageRecord) -> str:
    if record.truth_mask is None or not record.truth_mask.any():
        return ""
    intersection = int((record.final_mask & record.truth_mask).sum())
    union = int((record.final_mask | record.truth_mask).sum())
    return f", Dice {2 * intersection / (union + intersection):.2f}, IoU {intersection / union:.2f}"
