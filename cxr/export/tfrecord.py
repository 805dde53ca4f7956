"""TFRecords as reyvaz published them, one file a fold: train-<fold>-<count>.tfrec, test-<count>.tfrec.

Features: img_id, image, rle, label; a test record has the first two. The images are PNGs, without loss, where
the published ones were JPEGs; the run-length code is in the image's own pixels.
"""

from pathlib import Path

from cxr import rle
from cxr.export.encode import png
from cxr.export.source import Example, Source
from cxr.tfkit import records


def write(source: Source, folder: Path) -> None:
    """Write all images of `source` into files in `folder`."""
    parts = {f"train-{fold}": source.fold_ids(fold) for fold in range(source.prepared.fold_count)}
    parts |= {split: source.prepared.ids(split) for split in source.counts if split != "train"}
    for name, ids in parts.items():
        records.write(folder / f"{name}-{len(ids)}.tfrec", source.each(_record, ids))


def _record(example: Example) -> records.Example:
    code = None if example.mask is None else rle.encode(example.mask)
    return records.Example(example.image_id, png(example.image), code, example.label)
