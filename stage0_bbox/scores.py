"""Metrics of the boxes: IoU with hand boxes that the model did not see, and pneumothorax pixels outside the box."""

import math

import numpy as np

from cxr.datasets.prepared import Prepared
from cxr.imaging.geometry import Box, box_iou
from evaluation.metrics import format_metric
from stage0_bbox.choose_boxes import FALLBACK, ChestBox, ChestBoxChooser

GOOD_IOU = 0.75


def measure_boxes(
    chooser: ChestBoxChooser, chest_boxes: dict[str, ChestBox], hand_boxes: dict[str, Box]
) -> dict[str, float | int | None]:
    """Metrics of run.json: overlap with held-out hand boxes, fallbacks, pneumothorax pixels left outside."""
    boxes = {key: chest_box.box for key, chest_box in chest_boxes.items()}
    grown_boxes = {key: chooser.grow_box(key, box) for key, box in boxes.items()}
    fallback_share = np.mean([chest_box.source == FALLBACK for chest_box in chest_boxes.values()])
    metrics = measure_overlap(chooser, chest_boxes, hand_boxes)
    metrics |= {"images": len(chest_boxes), "fallbacks": round(float(fallback_share), 4)}
    metrics["missed"] = measure_missed_pixels(chooser.prepared, boxes)
    metrics["missed_with_margin"] = measure_missed_pixels(chooser.prepared, grown_boxes)
    return metrics


def measure_overlap(
    chooser: ChestBoxChooser, chest_boxes: dict[str, ChestBox], hand_boxes: dict[str, Box]
) -> dict[str, float | int | None]:
    """IoU with the hand boxes, before the margin, with it, and of the mean box; None where there are no hand boxes."""
    keys = sorted(hand_boxes)
    undefined = {"iou_mean": None, "iou_p5": None, "iou_good": None, "iou_mean_box": None, "iou_with_margin": None}
    if not keys:
        return {"hand_boxes": 0} | undefined
    hand_edges = np.array([hand_boxes[key] for key in keys])
    ious = box_iou(np.array([chest_boxes[key].box for key in keys]), hand_edges)
    mean_box_ious = box_iou(np.array([chooser.mean_box(key) for key in keys]), hand_edges)
    grown_ious = box_iou(np.array([chooser.grow_box(key, chest_boxes[key].box) for key in keys]), hand_edges)
    values = (ious.mean(), np.percentile(ious, 5), (ious >= GOOD_IOU).mean(), mean_box_ious.mean(), grown_ious.mean())
    return {"hand_boxes": len(keys)} | {
        name: round(float(value), 4) for name, value in zip(undefined, values, strict=True)
    }


def measure_missed_pixels(prepared: Prepared, boxes: dict[str, Box]) -> float | None:
    """Share of the training images' pneumothorax pixels outside their boxes; None where there are no such pixels."""
    manifest = prepared.manifest
    positive_ids = manifest.index[(manifest["split"] == "train") & (manifest["mask_area"] > 0)]
    lesion_pixels = sum(int(manifest.loc[key, "mask_area"]) for key in positive_ids)
    covered_pixels = sum(_count_pixels_inside(prepared.read_original_mask(key), boxes[key]) for key in positive_ids)
    return round(1 - covered_pixels / lesion_pixels, 5) if lesion_pixels else None


def _count_pixels_inside(mask: np.ndarray, box: Box) -> int:
    left, top, right, bottom = math.floor(box.xmin), math.floor(box.ymin), math.ceil(box.xmax), math.ceil(box.ymax)
    return int(mask[max(top, 0) : bottom, max(left, 0) : right].sum())


def format_metrics(metrics: dict) -> str:
    """The metrics for people, a line each."""
    hand_count, margin = metrics["hand_boxes"], metrics["margin"]
    lines = [
        (f"IoU with {hand_count} held-out hand boxes, mean", metrics["iou_mean"]),
        ("  5th percentile", metrics["iou_p5"]),
        (f"  share >= {GOOD_IOU}", metrics["iou_good"]),
        ("  the mean box's IoU with the same", metrics["iou_mean_box"]),
        (f"fallbacks among {metrics['images']} images, share", metrics["fallbacks"]),
        ("pneumothorax pixels outside the box, share", metrics["missed"]),
        (f"  with the margin of {margin:.0%}", metrics["missed_with_margin"]),
    ]
    rounded = [(name, format_metric(value, 4 if "pixel" in name or "margin" in name else 3)) for name, value in lines]
    return "\n".join(f"  {name:<48}{value:>8}" for name, value in rounded)
