"""HDF5 as prasadsawant published it: images.h5 and masks.h5, datasets images_<n> and ann_<n> of 512 images each.

Values are uint8, while the published files held float32: images 0 to 255 (theirs were divided by 255), masks 0 or 1.
Next to them are ids_<n>, labels_<n> and folds_<n>. Other images: test_images.h5, unlabelled_images.h5.
"""

import shutil
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np

from cxr.errors import UsageError
from datatools.export.export_source import Source

SHARD = 512  # images in a dataset


def write_layout(source: Source, folder: Path) -> None:
    """Write all images of `source` into files in `folder`. Raises UsageError where they do not fit on the disk."""
    _require_free_space(len(source.image_ids) * source.size**2, folder)
    for split in source.image_counts:
        prefix = "" if split == "train" else f"{split}_"
        with ExitStack() as stack:
            files = {"images": stack.enter_context(h5py.File(folder / f"{prefix}images.h5", "w"))}
            if split == "train":
                files["ann"] = stack.enter_context(h5py.File(folder / "masks.h5", "w"))
            ids = source.prepared.list_ids(split)
            for number, start in enumerate(range(0, len(ids), SHARD)):
                _write_shard(source, files, number, ids[start : start + SHARD])


def _require_free_space(needed_bytes: int, folder: Path) -> None:
    """Check before anything is written: HDF5 aborts the process when the disk is full (seen with h5py 3.14)."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes * 1.05:
        raise UsageError(
            f"{free_bytes >> 20} MB are free for --out, {needed_bytes >> 20} MB are needed: choose another"
        )


def _write_shard(source: Source, files: dict[str, h5py.File], number: int, ids: list[str]) -> None:
    """Write the datasets of these images, and of their masks where `files` has a file ann for them."""
    shape = (len(ids), source.size, source.size, 1)
    images = files["images"].create_dataset(f"images_{number}", shape, np.uint8)
    for file in files.values():
        file[f"ids_{number}"] = ids
    if "ann" not in files:
        for row, example in enumerate(source.map_examples(lambda example: example, ids)):
            images[row, ..., 0] = example.image
        return
    labels_and_folds = np.empty((2, len(ids)), np.int64)
    # Masks are nearly all zeros. Images stay uncompressed: they shrink little and are read in random order.
    masks = files["ann"].create_dataset(
        f"ann_{number}", shape, np.uint8, chunks=(1, *shape[1:]), compression="gzip", compression_opts=1
    )
    for row, example in enumerate(source.map_examples(lambda example: example, ids)):
        images[row, ..., 0], masks[row, ..., 0] = example.image, example.mask
        labels_and_folds[:, row] = example.label, example.fold
    files["images"][f"labels_{number}"], files["images"][f"folds_{number}"] = labels_and_folds
