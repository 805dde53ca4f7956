"""Training batches from the records of `python -m cxr.export --to tfrecord`, through tf.data, on every device.

The epoch's images and the number of its batches are those of ClassifierData; order and augmentation are tf.data's own,
keyed by (seed, epoch), so that a resumed training sees the same.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from cxr.augment import Augment
from cxr.errors import DataError, UsageError
from cxr.files import read_json
from cxr.tfkit import records
from cxr.views import View, key
from stage1_classify.config import ClassifierConfig
from stage1_classify.data import ClassifierData

HERE = {"hflip", "gamma", "brightness", "brightness_limit", "contrast", "contrast_range", "clahe_too"}
"""Fields of cxr.augment that are applied to records, too."""
SHUFFLED = 2**29  # bytes of images among which the next one is drawn


class Records:
    """The batches of a training, read from record files."""

    def __init__(self, data: ClassifierData, devices: tf.distribute.Strategy) -> None:
        self.data, self.devices = data, devices
        self.folder = data.prepared.folder.parent / "export" / "tfrecord"
        self.paths = _found(self.folder)
        _fits_devices(data, devices.num_replicas_in_sync)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[dict[str, tf.Tensor]]:
        """The batches of an epoch, from number `first` on: image uint8 [B, s, s, 1], label float32 [B]."""
        batches, seen = self.data.batches(epoch), first
        dataset = self._dataset(epoch, [image_id for ids in batches for image_id in ids]).skip(first)
        several = self.devices.num_replicas_in_sync > 1
        try:
            for batch in self.devices.experimental_distribute_dataset(dataset) if several else dataset:
                yield batch
                seen += 1
        except tf.errors.OpError as error:
            raise DataError(f"{self.folder}: a record cannot be read: {error.message.splitlines()[0]}") from None
        if seen < len(batches):
            raise UsageError(f"{self.folder} lacks images of this training; make it again: {records.STEP}")

    def close(self) -> None:
        """Nothing is open between epochs."""

    def _dataset(self, epoch: int, image_ids: list[str]) -> tf.data.Dataset:
        member, rng = self.data.member, key(self.data.seed, epoch, "records")
        paths, shuffle, augment = rng.permutation([str(p) for p in self.paths]), *rng.integers(2**31, size=2)
        most = max(min(len(image_ids), SHUFFLED // self.data.prepared.size**2), 1)
        found = records.dataset([Path(path) for path in paths]).filter(_among(image_ids))
        found = found.shuffle(most, seed=int(shuffle)).enumerate()
        found = found.map(lambda row, record: _example(member, record, tf.stack([int(augment), row])), tf.data.AUTOTUNE)
        size = min(member.training.batch, len(image_ids))
        return found.batch(size, drop_remainder=True).with_options(_options()).prefetch(tf.data.AUTOTUNE)


def problem(member: ClassifierConfig) -> str | None:
    """The key of a setting that training from records does not have."""
    view, sampling, still = member.view, member.sampling, Augment()
    asked = {f"augment.{name}": getattr(member.augment, name) != getattr(still, name)
             for name in Augment.model_fields if name not in HERE}  # fmt: skip
    asked |= {f"view.{name}": getattr(view, name) != value for name, value in _whole(view).items()}
    asked["augment.clahe_too"] = member.augment.contrast > 0 and member.augment.clahe_too
    asked["sampling.positive_share"] = sampling.positive_share is not None
    wrong = [name for name, is_asked in asked.items() if is_asked]
    return f"{wrong[0]}: input: tfrecord does not have it; leave it out, or train with input: arrays" if wrong else None


def _whole(view: View) -> dict[str, object]:
    """What a view of the whole frame looks like."""
    return {"crop": "full", "random_share": 0.0, "frame": None}


def _found(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("train-*.tfrec"))
    if not paths:
        raise UsageError(f"{folder}: no records train-*.tfrec; they are made by: {records.STEP}")
    if (read_json(folder / "export.json") or {}).get("crop", "full") != "full":
        raise UsageError(f"{folder}: these records are cut to the box, training needs the frame: {records.STEP}")
    return paths


def _fits_devices(data: ClassifierData, devices: int) -> None:
    smallest = min((len(ids) for ids in data.batches(0)), default=devices)
    if smallest < devices:
        raise UsageError(f"training.batch: a batch of {smallest} leaves some of the {devices} devices without an image")


def _among(image_ids: list[str]):
    """A filter of records by their image."""
    known = tf.lookup.KeyValueTensorInitializer(tf.constant(image_ids), tf.ones(len(image_ids), tf.int64))
    table = tf.lookup.StaticHashTable(known, default_value=0)
    return lambda record: table.lookup(record["image_id"]) > 0


def _example(member: ClassifierConfig, record: dict, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """One record as the network sees it; seed int64 [2]."""
    side = member.view.size
    image = tf.image.resize(tf.cast(record["image"], tf.float32), (side, side), antialias=True)
    image = tf.ensure_shape(image, (side, side, 1)) / 255
    image = _augmented(member.augment, image, tf.random.experimental.stateless_split(seed, 6))
    return {"image": tf.cast(tf.round(255 * tf.clip_by_value(image, 0, 1)), tf.uint8), "label": record["label"]}


def _augmented(settings: Augment, image: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """A gray image of 0..1, mirrored, bent in gamma, brightened, stretched in contrast, each with its probability."""

    def draw(place: int, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
        return tf.random.stateless_uniform((), seeds[place], low, high)

    if settings.gamma:
        exponents, weights = (np.array(part, np.float32) for part in zip(*settings.gamma.items(), strict=True))
        image = image ** tf.gather(exponents, tf.searchsorted(np.cumsum(weights / weights.sum()), [draw(0)])[0])
    image = tf.where(draw(1) < settings.hflip, image[:, ::-1], image)
    shifted = image + draw(2, -settings.brightness_limit, settings.brightness_limit)
    image = tf.where(draw(3) < settings.brightness, shifted, image)
    mean = tf.reduce_mean(image)
    stretched = (image - mean) * draw(4, *settings.contrast_range) + mean
    return tf.where(draw(5) < settings.contrast, stretched, image)


def _options() -> tf.data.Options:
    """In a fixed order; a batch is split among the devices, files are not."""
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
