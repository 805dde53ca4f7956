"""Chest boxes to learn from: files of any kind (cxr/datasets/box_files.py), in order of trust."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from cxr.datasets import box_files
from cxr.errors import DataError
from cxr.imaging.geometry import Box


@dataclass
class BoxLabels:
    """Boxes to learn from by image_id, in the original's pixels, and the counts of skipped rows by reason."""

    hand_boxes: dict[str, Box] = field(default_factory=dict)
    weak_boxes: dict[str, Box] = field(default_factory=dict)
    """Boxes of images that have none in the first file."""
    skipped_rows: Counter = field(default_factory=Counter)

    @property
    def boxes(self) -> dict[str, Box]:
        return self.weak_boxes | self.hand_boxes


def collect_labels(files: list[Path] | tuple[Path, ...], hand_name: str, manifest: pd.DataFrame) -> BoxLabels:
    """Boxes of training images from label files in order of trust; `hand_name` is the one that is scored against.

    manifest: tables.MANIFEST indexed by image_id. Raises DataError for a bad row, and where no box is left.
    """
    labels = BoxLabels()
    frames = manifest.loc[manifest["split"] != "test", ["width", "height"]]
    sizes = dict(zip(frames.index, frames.itertuples(index=False, name=None), strict=True))
    for path in files:
        file_boxes = box_files.read_chest_boxes(path, sizes, labels.skipped_rows)
        target = labels.hand_boxes if path.name == Path(hand_name).name else labels.weak_boxes
        target |= {
            key: box for key, box in file_boxes.items() if key not in labels.hand_boxes and key not in labels.weak_boxes
        }
    if not labels.boxes:
        raise DataError(_describe_missing_boxes(files, hand_name, labels.skipped_rows))
    return labels


def _describe_missing_boxes(files, hand_name: str, skipped_rows: Counter) -> str:
    advice = f"give chest boxes of training images as boundingbox_csv/{hand_name} in the data folder"
    formats = "(VIA CSV or JSON, Filename,xmin,xmax,ymin,ymax, or COCO JSON; the phantoms bring theirs)"
    if not files:
        return f"no file of chest boxes to learn from: {advice} {formats}, or name another file in stage 0's labels"
    counts = "; ".join(f"{count} rows {reason}" for reason, count in skipped_rows.items()) or "they hold no rows"
    return f"no box to learn from in {', '.join(map(str, files))}: {counts}; {advice} {formats}"
