"""TFRecords as reyvaz published them, one file for each fold: train-<fold>-<count>.tfrec, test-<count>.tfrec.

Features: img_id, image, rle, label; a test record has only the first two. The images are lossless PNGs, while the
published ones were JPEGs; the run-length code is in pixels of the exported image.
"""

from pathlib import Path

from cxr.imaging import rle
from cxr.tfkit import records
from datatools.export.export_source import Example, Source
from datatools.export.image_encoding import encode_png


def write_layout(source: Source, folder: Path) -> None:
    """Write all images of `source` into files in `folder`."""
    ids_by_file = {f"train-{fold}": source.fold_ids(fold) for fold in range(source.prepared.fold_count)}
    ids_by_file |= {split: source.prepared.list_ids(split) for split in source.image_counts if split != "train"}
    for name, ids in ids_by_file.items():
        records.write_records(folder / f"{name}-{len(ids)}.tfrec", source.map_examples(_encode_record, ids))


def _encode_record(example: Example) -> records.Example:
    code = None if example.mask is None else rle.encode_mask(example.mask)
    return records.Example(example.image_id, encode_png(example.image), code, example.label)
