"""The training of Keras members: what it computes, keeps, and takes up again.

Each function is a check that test_keras.py names; run by keras_cases.main in a process of its own.
"""

import json
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxr.datasets.prepared import Prepared
from cxr.errors import DataError
from cxr.tfkit import records
from cxr.training.schedule import SchedulePosition
from cxr.training.settings import Training
from stage1_classify import config
from stage1_classify.data import ClassifierData
from stage1_classify.keras_members import device, loading, network, train_step
from stage1_classify.keras_members.loop import Trainer
from stage1_classify.keras_members.optimizers import RAdam, set_rate
from stage1_classify.keras_members.records import RecordLoader
from tests.stage1_classify.keras_cases import data_of, fit, folder, images, member, refused, stored


def frozen_backbone_stays() -> None:
    head = {"kind": "tap", "stride": 4, "width": 4, "dropout": (0, 0, 0)}
    for settings, still in (({"freeze_backbone": True}, True), ({"training": {"head_first": 1}}, False)):
        one = member(backbone="EfficientNetB0", head=head, **settings)
        data, model = data_of(one, 8), network.build_network(one)
        trainer = Trainer(model, data, loading.TrainingLoader(data, 0), folder(), "id")
        backbone, top = network.split_network(model)
        before, head_before = backbone.get_weights(), top.get_weights()
        trainer._train_epoch()
        assert all(np.array_equal(*pair) for pair in zip(before, backbone.get_weights(), strict=True))
        assert not np.array_equal(head_before[0], top.get_weights()[0])
        trainer._close_epoch()
        trainer._train_epoch()
        same = [np.array_equal(*pair) for pair in zip(before, backbone.get_weights(), strict=True)]
        assert all(same) if still else not any(same)


def one_batch_is_overfitted() -> None:
    one = member(head={"kind": "tap", "stride": 2, "width": 16, "dropout": (0, 0, 0), "pool": "max"})
    steps = train_step.TrainingOps(network.build_network(one), one, False, device.default_strategy())
    batch = {"image": images(4, 32), "label": np.array([0, 1, 0, 1], np.float32)}
    for _ in range(40):
        loss, gradients = steps.compute_gradients(batch, 4, True)
        steps.apply_gradients(gradients, True)
    assert loss < 0.05, loss


class Killed(Exception):
    pass


def broken(one: config.ClassifierConfig, to: Path, at_step: int) -> None:
    """Train, and break off after a checkpoint in the middle of an epoch, as a kill would."""
    save = Trainer._save_checkpoint

    def save_then_die(self) -> None:
        save(self)
        if self.state.step >= at_step:
            raise Killed

    Trainer._save_checkpoint = save_then_die
    try:
        fit(one, to)
    except Killed:
        return
    finally:
        Trainer._save_checkpoint = save
    raise AssertionError("it was not broken off")


def broken_training_ends_as_an_unbroken_one() -> None:
    for settings in (
        {"optimizer": "nadam", "schedule": "onecycle", "ema": 0.9, "keep": "average", "top": 2},
        {"optimizer": "radam", "schedule": "plateau", "plateau_patience": 0, "accumulate": 2, "amp": True},
    ):
        one = member(training={"checkpoint_minutes": 0} | settings)
        whole, parts = folder(), folder()
        fit(one, whole)
        broken(one, parts, at_step=3 if "accumulate" in settings else 4)
        saved = json.loads(str(np.load(parts / "checkpoint.npz")["state"]))["loop"]
        assert 0 < saved["batch"] < 3, saved
        fit(one, parts)
        same = [np.array_equal(*pair) for pair in zip(stored(whole), stored(parts), strict=True)]
        assert all(same), (settings, same)
        assert (whole / "history.csv").read_text() == (parts / "history.csv").read_text()


def few_steps_and_many_compute_the_same() -> None:
    few = train_step.MIN_GRAPH_STEPS
    found = []
    for train_step.MIN_GRAPH_STEPS in (0, 1000):
        sys.modules["stage1_classify.keras_members.loop"].MIN_GRAPH_STEPS = train_step.MIN_GRAPH_STEPS
        to = folder()
        fit(member(), to)
        found.append(stored(to))
    train_step.MIN_GRAPH_STEPS = sys.modules["stage1_classify.keras_members.loop"].MIN_GRAPH_STEPS = few
    assert all(np.allclose(*pair, atol=1e-4) for pair in zip(*found, strict=True))


def checkpoint_of_another_or_damaged_is_not_taken_up() -> None:
    to, one = folder(), member(training={"checkpoint_minutes": 0})
    broken(one, to, 2)
    data = data_of(one)
    other = Trainer(network.build_network(one), data, loading.TrainingLoader(data, 0), to, "other")
    other._resume_training()
    assert other.state.step == 0
    other.identity, loop = "id", sys.modules["stage1_classify.keras_members.loop"]
    version, loop.VERSION = loop.VERSION, "another"
    other._resume_training()
    loop.VERSION = version
    assert other.state.step == 0
    (to / "checkpoint.npz").write_bytes((to / "checkpoint.npz").read_bytes()[:1000])
    other._resume_training()
    assert other.state.step == 0


def scored(scores: list[float], **settings) -> tuple[Trainer, list[list[np.ndarray]], dict]:
    """A training whose watched scores are given; the trainer, the weights that were watched, its metrics."""
    one, shown, given = member(training={"epochs": len(scores)} | settings), [], iter(scores)
    data, model = data_of(one, 8), network.build_network(one)

    def watch() -> dict[str, float]:
        shown.append(model.get_weights())
        return {"score": next(given)}

    trainer = Trainer(model, data, loading.TrainingLoader(data, 0), folder(), "id", watch)
    return trainer, shown, trainer.fit()


def too_little_memory_is_said_with_what_to_set() -> None:
    one = member(training={"batch": 6, "accumulate": 2})
    data = data_of(one)
    trainer = Trainer(
        network.build_network(one), data, loading.TrainingLoader(data, 0), folder(), "id", label="a member"
    )

    def fails(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[6,32,32,64]")

    trainer.ops.compute_gradients = fails
    said = "a member: out of memory with training.batch: 6, training.accumulate: 2; set training.batch: 3,"
    refused(said, trainer.fit)


def best_weights_or_their_mean_are_kept() -> None:
    trainer, shown, metrics = scored([0.5, 0.9, 0.2])
    assert metrics["kept_epochs"] == [2]
    assert all(np.array_equal(*pair) for pair in zip(trainer.model.get_weights(), shown[1], strict=True))
    trainer, shown, metrics = scored([0.5, 0.9, 0.2], keep="average", top=2)
    assert metrics["kept_epochs"] == [2, 1]
    assert np.allclose(trainer.model.get_weights()[-1], (shown[0][-1] + shown[1][-1]) / 2)


def average_of_the_weights_is_watched_and_kept() -> None:
    one = member(training={"epochs": 1, "ema": 0.5, "keep": "last"})
    data, model = data_of(one, 8), network.build_network(one)
    after = []
    trainer = Trainer(model, data, loading.TrainingLoader(data, 0), folder(), "id")
    blend = trainer.ops.update_average
    trainer.ops.update_average = lambda number: (after.append(model.get_weights()), blend(number))
    trainer.fit()
    decay = 1 - 2 ** (-2 / 3)  # timm's warm-up at step 2; at step 1 it is 0
    expected = [decay * first + (1 - decay) * second for first, second in zip(*after, strict=True)]
    assert all(np.allclose(*pair, atol=1e-6) for pair in zip(model.get_weights(), expected, strict=True))


def early_stop_and_plateau_go_by_the_score() -> None:
    how = {"schedule": "plateau", "plateau_patience": 1, "plateau_factor": 0.5, "lr_min": 0.004}
    trainer, _, metrics = scored([0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.9], early_stop=6, **how)
    assert metrics["epochs"] == 7
    rates = [row["lr"] for row in trainer.state.history]
    assert np.allclose(rates, [0.01, 0.01, 0.01, 0.005, 0.005, 0.004, 0.004])


def rates_follow_their_schedules() -> None:
    def rate(epoch: int, done: float, **settings) -> float:
        training = Training(epochs=10, batch=4, lr=0.1, **settings)
        optimizer = train_step.build_optimizer(training)
        set_rate(optimizer, training, SchedulePosition(epoch, done))
        return float(optimizer.learning_rate)

    assert np.isclose(rate(2, 0.5, schedule="cosine"), 0.05 * (1 + np.cos(np.pi / 4)))
    assert np.isclose(rate(7, 0.5, schedule="cosine", cycles=2, lr_min=0.02), 0.06)
    assert np.isclose(rate(0, 0.0, schedule="onecycle"), 0.004)
    assert np.isclose(rate(3, 0.0, schedule="onecycle"), 0.1)
    warm = {"schedule": "warmup", "warmup_epochs": 2, "hold_epochs": 3, "lr_start": 0.02, "decay": 0.5}
    assert np.allclose([rate(epoch, 0.0, **warm) for epoch in (0, 1, 2, 4, 5, 6, 7)],
                       [0.02, 0.06, 0.1, 0.1, 0.1, 0.05, 0.025])  # fmt: skip


def radam_is_its_papers() -> None:
    x, w, m, v = tf.Variable([1.0, -2.0]), np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    optimizer = RAdam(0.1)
    most = 2 / 0.001 - 1
    for t in range(1, 10):
        gradient = np.array([0.5 * t, -1.0])
        optimizer.apply([tf.constant(gradient, tf.float32)], [x])
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        rho = most - 2 * t * 0.999**t / (1 - 0.999**t)
        step_of = m / (1 - 0.9**t)
        if rho > 5:
            r = np.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
            step_of = step_of * r / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        w = w - 0.1 * step_of
    assert np.allclose(x, w, atol=2e-4)  # float32 tells 1 - .999 to four digits


def gradients_are_clipped_and_decayed() -> None:
    weight, gradient = keras.Variable([2.0, 0.0]), tf.constant([3.0, 4.0])

    def shaped(**settings) -> np.ndarray:
        return train_step.clip_and_decay_gradients([gradient], [weight], Training(epochs=1, batch=1, lr=1, **settings))[
            0
        ].numpy()

    assert np.allclose(shaped(clip=1), [0.6, 0.8])
    assert np.allclose(shaped(clip_value=3.5), [3, 3.5])
    assert np.allclose(shaped(weight_decay=0.5), [4, 4])
    assert np.allclose(shaped(weight_decay=0.5, optimizer="adamw"), [3, 4])


def non_finite_loss_ends_the_run() -> None:
    losses = train_step.compute_losses
    train_step.compute_losses = lambda *arguments: losses(*arguments) * float("nan")
    try:
        refused("lower training.lr", fit, member())
    finally:
        train_step.compute_losses = losses


def loader_processes_make_the_same_batches() -> None:
    data = data_of(member())
    alone, pool = loading.TrainingLoader(data, 0), loading.TrainingLoader(data, 1)
    pairs = list(zip(alone.load_epoch(1, first_batch=1), pool.load_epoch(1, first_batch=1), strict=True))
    pool.close()
    assert len(pairs) == 2
    assert all(np.array_equal(a[key], b[key]) for a, b in pairs for key in ("image", "label"))


def write_records(data: ClassifierData) -> None:
    for fold in (0, 1):
        ids = data.prepared.folds.index[data.prepared.folds["fold"] == fold].tolist()
        path = data.prepared.folder.parent / "export" / "tfrecord" / f"train-{fold}-{len(ids)}.tfrec"
        path.parent.mkdir(parents=True, exist_ok=True)
        records.write_records(path, [example(data.prepared, image_id) for image_id in ids])


def example(prepared: Prepared, image_id: str) -> records.Example:
    png = tf.io.encode_png(prepared.read_image(image_id)[:, :, None]).numpy()
    return records.Example(image_id, png, "-1", int(prepared.manifest.at[image_id, "label"]))


def records_train_on_two_devices_as_on_one() -> None:
    one = member(input="tfrecord", head={"kind": "pooled", "dropout": (0, 0, 0)})  # batch norm would see half a batch
    data = data_of(one)
    write_records(data)
    losses, gradients, weights = [], [], None
    for devices in (device.choose_strategy(), device.default_strategy()):
        with devices.scope():
            model = network.build_network(one)
        model.set_weights(weights or model.get_weights())
        weights = model.get_weights()
        batch = next(RecordLoader(data, devices).load_epoch(0))
        loss, found = train_step.TrainingOps(model, one, True, devices).compute_gradients(batch, 4, True)
        losses.append(loss)
        gradients.append([each.numpy() for each in found])
    assert device.choose_strategy().num_replicas_in_sync == 2
    assert np.isclose(*losses)
    assert all(np.allclose(*pair, atol=1e-5) for pair in zip(*gradients, strict=True))
    assert all(each.any() for each in gradients[0][-2:])


def records_broken_off_end_as_unbroken() -> None:
    one = member(input="tfrecord", training={"checkpoint_minutes": 0, "ema": 0.9})
    whole, parts, both = folder(), folder(), folder()
    machine, device.choose_strategy = device.choose_strategy, device.default_strategy
    shutil.rmtree(data_of(one).prepared.folder.parent / "export", ignore_errors=True)
    refused("python -m datatools.export --to tfrecord", fit, one)
    write_records(data_of(one))
    fit(one, whole)
    broken(one, parts, 2)
    fit(one, parts)
    device.choose_strategy = machine
    assert all(np.array_equal(*pair) for pair in zip(stored(whole), stored(parts), strict=True))
    assert fit(one, both)["epochs"] == 2
    assert all(np.isfinite(each).all() for each in stored(both))


def records_that_lack_images_are_refused() -> None:
    data = data_of(member(input="tfrecord"))
    write_records(data)
    found = RecordLoader(data, device.default_strategy())
    found.paths.pop().unlink()
    found = RecordLoader(data, device.default_strategy())
    refused("lacks images of this training", list, found.load_epoch(0))
    found.paths[0].write_bytes(found.paths[0].read_bytes()[:-5])
    with pytest.raises(DataError, match="a record cannot be read"):
        list(found.load_epoch(0))


def records_hold_the_epochs_images() -> None:
    augment = {"hflip": 1.0, "brightness": 0.0}
    one = member(input="tfrecord", augment=augment, view={"size": 64, "crop": "full"}, sampling={"drop_negatives": 0.5})
    data = data_of(one, 16)
    write_records(data)
    found = list(RecordLoader(data, device.default_strategy()).load_epoch(3))
    wanted = {image_id for ids in data.batches(3) for image_id in ids}
    mirrored = {data.prepared.read_image(image_id)[:, ::-1].tobytes() for image_id in wanted}
    assert {image.numpy().tobytes() for batch in found for image in batch["image"]} == mirrored
    assert [len(batch["label"]) for batch in found] == [4] * len(data.batches(3))
    assert data.batches(3) != data.batches(4)
