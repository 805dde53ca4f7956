"""How good the boxes are, on hand boxes that their model did not see, and what they leave out."""

import math

import numpy as np

from cxr.geometry import Box, iou
from cxr.metrics import shown
from cxr.prepared import Prepared
from stage0_bbox.choose import FALLBACK, Chooser, Found

GOOD = 0.75


def measure(chooser: Chooser, found: dict[str, Found], hand: dict[str, Box]) -> dict[str, float | int | None]:
    """Metrics of run.json: overlap with held-out hand boxes, fallbacks, pneumothorax pixels left outside."""
    fallbacks = np.mean([one.source == FALLBACK for one in found.values()])
    outside = {"": lambda key: found[key].box, "_with_margin": lambda key: chooser.grown(key, found[key].box)}
    missed = {f"missed{name}": missed_pixels(chooser.prepared, box_of) for name, box_of in outside.items()}
    return overlap(chooser, found, hand) | {"images": len(found), "fallbacks": round(float(fallbacks), 4)} | missed


def overlap(chooser: Chooser, found: dict[str, Found], hand: dict[str, Box]) -> dict[str, float | int | None]:
    """IoU of found and hand boxes before the margin, and of the mean box with the same ones; None where n is 0."""
    keys = sorted(hand)
    undefined = {"iou_mean": None, "iou_p5": None, "iou_good": None, "iou_mean_box": None, "iou_with_margin": None}
    if not keys:
        return {"hand_boxes": 0} | undefined
    truth = np.array([hand[key] for key in keys])
    ious = iou(np.array([found[key].box for key in keys]), truth)
    mean = iou(np.array([chooser.mean_box(key) for key in keys]), truth)
    grown = iou(np.array([chooser.grown(key, found[key].box) for key in keys]), truth)
    values = (ious.mean(), np.percentile(ious, 5), (ious >= GOOD).mean(), mean.mean(), grown.mean())
    return {"hand_boxes": len(keys)} | {
        name: round(float(value), 4) for name, value in zip(undefined, values, strict=True)
    }


def missed_pixels(prepared: Prepared, box_of) -> float | None:
    """Share of the train images' pneumothorax pixels outside `box_of(image_id)`; None where there are none."""
    manifest = prepared.manifest
    positive = manifest.index[(manifest["split"] == "train") & (manifest["mask_area"] > 0)]
    total = sum(int(manifest.loc[key, "mask_area"]) for key in positive)
    inside = sum(_inside(prepared.original_mask(key), box_of(key)) for key in positive)
    return round(1 - inside / total, 5) if total else None


def _inside(mask: np.ndarray, box: Box) -> int:
    left, top, right, bottom = math.floor(box.xmin), math.floor(box.ymin), math.ceil(box.xmax), math.ceil(box.ymax)
    return int(mask[max(top, 0) : bottom, max(left, 0) : right].sum())


def table(metrics: dict) -> str:
    """The metrics for people, a line each."""
    n, margin = metrics["hand_boxes"], metrics["margin"]
    lines = [
        (f"IoU with {n} held-out hand boxes, mean", metrics["iou_mean"]),
        ("  5th percentile", metrics["iou_p5"]),
        (f"  share >= {GOOD}", metrics["iou_good"]),
        ("  the mean box's IoU with the same", metrics["iou_mean_box"]),
        (f"fallbacks among {metrics['images']} images, share", metrics["fallbacks"]),
        ("pneumothorax pixels outside the box, share", metrics["missed"]),
        (f"  with the margin of {margin:.0%}", metrics["missed_with_margin"]),
    ]
    return "\n".join(
        f"  {name:<48}{shown(value, 4 if 'pixel' in name or 'margin' in name else 3):>8}" for name, value in lines
    )
