"""TFRecords of radiographs as reyvaz published them: img_id, image (encoded), rle, label."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cxr.errors import DataError, UsageError

EXPORT_COMMAND = "python -m datatools.export --to tfrecord"
FEATURES = {
    "img_id": tf.io.FixedLenFeature([], tf.string),
    "image": tf.io.FixedLenFeature([], tf.string),
    "rle": tf.io.FixedLenFeature([], tf.string, default_value=""),
    "label": tf.io.FixedLenFeature([], tf.int64, default_value=-1),
}


class Example(NamedTuple):
    """One record. image: a PNG or JPEG file's bytes; rle: in the image's own pixels; both last: None where unknown."""

    image_id: str
    image: bytes
    rle: str | None = None
    label: int | None = None


def write_records(path: Path, examples: Iterable[Example]) -> int:
    """Write one record an example, as they come; returns how many. An unknown rle or label is left out.

    Raises OSError where the disk takes no more.
    """
    count = 0
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for example in examples:
                writer.write(_serialize_example(example))
                count += 1
    except tf.errors.ResourceExhaustedError:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
    return count


def open_records(paths: Iterable[Path]) -> tf.data.Dataset:
    """Examples of record files in the order given, read as they are asked for, ours or the published (JPEG) ones.

    Each is {image_id: string, image: uint8 [s, s, 1], label: float32 of 0 or 1, rle: string}; without a label
    it is NaN and '' (a test file's). s is the first image's: one of another shape ends the reading with an error.
    Raises UsageError where a file is missing, DataError where the first one holds no record of ours.
    """
    paths = [Path(path) for path in paths]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise UsageError(f"{missing[0] if missing else 'a record file'} is missing; it is made by: {EXPORT_COMMAND}")
    records = tf.data.TFRecordDataset([str(path) for path in paths])
    shape = _first_image_shape(records, paths)
    return records.map(lambda record: _parse_record(record, shape), num_parallel_calls=tf.data.AUTOTUNE)


def _serialize_example(example: Example) -> bytes:
    features = {"img_id": _bytes_feature(example.image_id.encode()), "image": _bytes_feature(example.image)}
    if example.rle is not None:
        features["rle"] = _bytes_feature(example.rle.encode())
    if example.label is not None:
        features["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[example.label]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _bytes_feature(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _first_image_shape(records: tf.data.Dataset, paths: list[Path]) -> tf.TensorShape:
    """Shape of the first image: a network wants to know it before the first batch."""
    try:
        first_example = next(iter(records.map(lambda record: _parse_record(record, None)).take(1)), None)
    except tf.errors.OpError as error:
        raise DataError(f"{paths[0]} holds no record of a radiograph: {error.message.splitlines()[0]}") from None
    if first_example is None:
        raise DataError(f"no record in {', '.join(path.name for path in paths)} of {paths[0].parent}")
    return first_example["image"].shape


def _parse_record(record: tf.Tensor, shape: tf.TensorShape | None) -> dict[str, tf.Tensor]:
    features = tf.io.parse_single_example(record, FEATURES)
    image = tf.io.decode_image(features["image"], channels=1, expand_animations=False)
    label = tf.cast(features["label"], tf.float32)
    return {
        "image_id": features["img_id"],
        "image": image if shape is None else tf.ensure_shape(image, shape),
        "label": tf.where(label < 0, np.float32(np.nan), label),
        "rle": features["rle"],
    }
