"""Chest boxes to learn from: files of any kind (cxr/box_files.py), in order of trust."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from cxr import box_files
from cxr.errors import DataError
from cxr.geometry import Box


@dataclass
class Labels:
    """Boxes to learn from by image_id, in the original's pixels, and the counts of rows that were left out."""

    hand: dict[str, Box] = field(default_factory=dict)
    weak: dict[str, Box] = field(default_factory=dict)
    """Of images that the first file is silent on."""
    skipped: Counter = field(default_factory=Counter)

    @property
    def boxes(self) -> dict[str, Box]:
        return self.weak | self.hand


def collect(files: list[Path] | tuple[Path, ...], hand_name: str, manifest: pd.DataFrame) -> Labels:
    """Boxes of training images from label files in order of trust; `hand_name` is the one that is scored against.

    manifest: tables.MANIFEST indexed by image_id. Raises DataError for a bad row, and where no box is left.
    """
    labels = Labels()
    frames = manifest.loc[manifest["split"] != "test", ["width", "height"]]
    sizes = dict(zip(frames.index, frames.itertuples(index=False, name=None), strict=True))
    for path in files:
        kept = box_files.of_images(path, sizes, labels.skipped)
        target = labels.hand if path.name == Path(hand_name).name else labels.weak
        target |= {key: box for key, box in kept.items() if key not in labels.hand and key not in labels.weak}
    if not labels.boxes:
        raise DataError(_nothing(files, hand_name, labels.skipped))
    return labels


def _nothing(files, hand_name: str, skipped: Counter) -> str:
    wanted = f"give chest boxes of training images as boundingbox_csv/{hand_name} in the data folder"
    kinds = "(VIA CSV or JSON, Filename,xmin,xmax,ymin,ymax, or COCO JSON; the phantoms bring theirs)"
    if not files:
        return f"no file of chest boxes to learn from: {wanted} {kinds}, or name another file in stage 0's labels"
    counts = "; ".join(f"{count} rows {why}" for why, count in skipped.items()) or "they hold no rows"
    return f"no box to learn from in {', '.join(map(str, files))}: {counts}; {wanted} {kinds}"
