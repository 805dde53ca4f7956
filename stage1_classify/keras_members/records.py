"""Training batches from the records of `python -m datatools.export --to tfrecord`, through tf.data, on every device.

The epoch's images and the number of its batches are those of ClassifierData; order and augmentation are tf.data's own,
keyed by (seed, epoch), so that a resumed training sees the same.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from cxr.errors import DataError, UsageError
from cxr.files import read_json
from cxr.tfkit import records
from cxr.training.augment import Augmentation
from cxr.training.cropping import View, keyed_rng
from stage1_classify.config import ClassifierConfig
from stage1_classify.data import ClassifierData

RECORD_AUGMENTATIONS = {"hflip", "gamma", "brightness", "brightness_limit", "contrast", "contrast_range", "clahe_too"}
"""Fields of cxr.training.augment that are applied to records, too."""
SHUFFLE_BYTES = 2**29  # bytes of images among which the next one is drawn


class RecordLoader:
    """The batches of a training, read from record files."""

    def __init__(self, data: ClassifierData, strategy: tf.distribute.Strategy) -> None:
        self.data, self.strategy = data, strategy
        self.folder = data.prepared.folder.parent / "export" / "tfrecord"
        self.paths = _require_record_files(self.folder)
        _require_image_per_device(data, strategy.num_replicas_in_sync)

    def load_epoch(self, epoch: int, first_batch: int = 0) -> Iterator[dict[str, tf.Tensor]]:
        """The batches of an epoch, from number `first_batch` on: image uint8 [B, s, s, 1], label float32 [B]."""
        batches, batch_number = self.data.batches(epoch), first_batch
        dataset = self._build_dataset(epoch, [image_id for ids in batches for image_id in ids]).skip(first_batch)
        is_distributed = self.strategy.num_replicas_in_sync > 1
        try:
            for batch in self.strategy.experimental_distribute_dataset(dataset) if is_distributed else dataset:
                yield batch
                batch_number += 1
        except tf.errors.OpError as error:
            raise DataError(f"{self.folder}: a record cannot be read: {error.message.splitlines()[0]}") from None
        if batch_number < len(batches):
            raise UsageError(f"{self.folder} lacks images of this training; make it again: {records.EXPORT_COMMAND}")

    def close(self) -> None:
        """Nothing is open between epochs."""

    def _build_dataset(self, epoch: int, image_ids: list[str]) -> tf.data.Dataset:
        member, rng = self.data.member, keyed_rng(self.data.seed, epoch, "records")
        paths, shuffle_seed, augment_seed = rng.permutation([str(p) for p in self.paths]), *rng.integers(2**31, size=2)
        buffer_size = max(min(len(image_ids), SHUFFLE_BYTES // self.data.prepared.size**2), 1)
        dataset = records.open_records([Path(path) for path in paths]).filter(_build_image_filter(image_ids))
        dataset = dataset.shuffle(buffer_size, seed=int(shuffle_seed)).enumerate()
        dataset = dataset.map(
            lambda row, record: _build_example(member, record, tf.stack([int(augment_seed), row])), tf.data.AUTOTUNE
        )
        size = min(member.training.batch, len(image_ids))
        return dataset.batch(size, drop_remainder=True).with_options(_dataset_options()).prefetch(tf.data.AUTOTUNE)


def find_record_problem(member: ClassifierConfig) -> str | None:
    """The key of a setting that training from records does not have."""
    view, sampling, no_augmentation = member.view, member.sampling, Augmentation()
    is_requested_by_key = {f"augment.{name}": getattr(member.augment, name) != getattr(no_augmentation, name)
             for name in Augmentation.model_fields if name not in RECORD_AUGMENTATIONS}  # fmt: skip
    is_requested_by_key |= {
        f"view.{name}": getattr(view, name) != value for name, value in _full_view_settings(view).items()
    }
    is_requested_by_key["augment.clahe_too"] = member.augment.contrast > 0 and member.augment.clahe_too
    is_requested_by_key["sampling.positive_share"] = sampling.positive_share is not None
    unsupported_keys = [name for name, is_requested in is_requested_by_key.items() if is_requested]
    return (
        f"{unsupported_keys[0]}: input: tfrecord does not have it; leave it out, or train with input: arrays"
        if unsupported_keys
        else None
    )


def _full_view_settings(view: View) -> dict[str, object]:
    """What a view of the whole frame looks like."""
    return {"crop": "full", "random_share": 0.0, "frame": None}


def _require_record_files(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("train-*.tfrec"))
    if not paths:
        raise UsageError(f"{folder}: no records train-*.tfrec; they are made by: {records.EXPORT_COMMAND}")
    if (read_json(folder / "export.json") or {}).get("crop", "full") != "full":
        raise UsageError(
            f"{folder}: these records are cut to the box, training needs the frame: {records.EXPORT_COMMAND}"
        )
    return paths


def _require_image_per_device(data: ClassifierData, device_count: int) -> None:
    smallest = min((len(ids) for ids in data.batches(0)), default=device_count)
    if smallest < device_count:
        raise UsageError(
            f"training.batch: a batch of {smallest} leaves some of the {device_count} devices without an image"
        )


def _build_image_filter(image_ids: list[str]):
    """A filter of records by their image."""
    initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(image_ids), tf.ones(len(image_ids), tf.int64))
    table = tf.lookup.StaticHashTable(initializer, default_value=0)
    return lambda record: table.lookup(record["image_id"]) > 0


def _build_example(member: ClassifierConfig, record: dict, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """One record as the network sees it; seed int64 [2]."""
    side = member.view.size
    image = tf.image.resize(tf.cast(record["image"], tf.float32), (side, side), antialias=True)
    image = tf.ensure_shape(image, (side, side, 1)) / 255
    image = _augment_image(member.augment, image, tf.random.experimental.stateless_split(seed, 6))
    return {"image": tf.cast(tf.round(255 * tf.clip_by_value(image, 0, 1)), tf.uint8), "label": record["label"]}


def _augment_image(settings: Augmentation, image: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """A gray image of 0..1, mirrored, bent in gamma, brightened, stretched in contrast, each with its probability."""

    def draw_uniform(seed_index: int, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
        return tf.random.stateless_uniform((), seeds[seed_index], low, high)

    if settings.gamma:
        exponents, weights = (np.array(values, np.float32) for values in zip(*settings.gamma.items(), strict=True))
        image = image ** tf.gather(exponents, tf.searchsorted(np.cumsum(weights / weights.sum()), [draw_uniform(0)])[0])
    image = tf.where(draw_uniform(1) < settings.hflip, image[:, ::-1], image)
    shifted = image + draw_uniform(2, -settings.brightness_limit, settings.brightness_limit)
    image = tf.where(draw_uniform(3) < settings.brightness, shifted, image)
    mean = tf.reduce_mean(image)
    stretched = (image - mean) * draw_uniform(4, *settings.contrast_range) + mean
    return tf.where(draw_uniform(5) < settings.contrast, stretched, image)


def _dataset_options() -> tf.data.Options:
    """In a fixed order; a batch is split among the devices, files are not."""
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
