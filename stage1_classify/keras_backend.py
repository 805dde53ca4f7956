"""Classifiers in Keras on TensorFlow: efficientnet.tfkeras, Xception and VGG16 with the heads of keras_models.

It offers what timm_backend does: download(start, file) and check(member), before any work; fit(...) -> metrics;
infer(...) -> (prob, features); and parameters(member), for the table in the README.
"""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from cxr.course import explain_memory
from cxr.errors import UsageError
from cxr.metrics import auc
from cxr.processes import loaders
from stage1_classify import keras_device, keras_records
from stage1_classify.config import ClassifierConfig
from stage1_classify.data import ClassifierData
from stage1_classify.keras_device import precision, settle
from stage1_classify.keras_loading import Loader, channels_last
from stage1_classify.keras_loop import Trainer, steps_of
from stage1_classify.keras_models import network
from stage1_classify.keras_steps import FEW, answers
from stage1_classify.keras_weights import download as download
from stage1_classify.keras_weights import start

_fitted: dict[Path, keras.Model] = {}  # the network just trained: to build and read one again takes seconds
Answer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def fit(data: ClassifierData, watch_ids: list[str], folder: Path, identity: str, label: str, fold: int) -> dict:
    """Train the unit's model in `folder`, from its checkpoint where there is one; returns metrics."""
    _begin(data.member)
    devices, loader = _feed(data)
    with devices.scope():
        keras.utils.set_random_seed(int(np.random.SeedSequence((data.seed, fold)).generate_state(1)[0]))
        model = start(data.member)
    answer = answers(model, steps_of(data) < FEW)
    watch = (lambda: _score(data.without_tta, watch_ids, answer)) if watch_ids else None
    try:
        metrics = Trainer(model, data, loader, folder, identity, watch, label, devices).fit()
    finally:
        loader.close()
    _fitted.clear()
    _fitted[folder] = model
    return metrics


def infer(data: ClassifierData, image_ids: list[str], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float32 [N] and bottleneck features float32 [N, D] of images under the model in `folder`."""
    model = _fitted.pop(folder, None) or _loaded(data.member, folder)
    with explain_memory(f"{folder.parent.name}, {folder.name}", data.member.training):
        return _infer(data, image_ids, answers(model, _batches(data, len(image_ids)) < FEW))


def check(member: ClassifierConfig) -> None:
    """Build the network with its start weights; UsageError names the key that cannot be had."""
    problem = _problem(member)
    if problem:
        raise UsageError(problem)
    _begin(member)
    start(member)


def parameters(member: ClassifierConfig) -> int:
    """Numbers in all of the network's tensors, batch norm's statistics among them."""
    _begin(member)
    return network(member).count_params()


def _begin(member: ClassifierConfig) -> None:
    settle()
    keras.utils.clear_session()  # of a member before this one
    precision(member.training.amp)


def _loaded(member: ClassifierConfig, folder: Path) -> keras.Model:
    _begin(member)
    model = network(member)
    model.load_weights(folder / "weights.keras")
    return model


def _problem(member: ClassifierConfig) -> str | None:
    """What Keras cannot do with these settings, by the key."""
    training = member.training
    if training.schedule == "onecycle" and training.optimizer == "sgd":
        return "training.optimizer: Keras's sgd keeps its momentum, which onecycle moves; take another optimizer"
    return keras_records.problem(member) if member.input == "tfrecord" else None


def _feed(data: ClassifierData):
    """The devices to train on, and what brings them batches."""
    if data.member.input == "tfrecord":
        devices = keras_device.strategy()
        return devices, keras_records.Records(data, devices)
    few = steps_of(data) < FEW  # a process takes seconds to start
    return keras_device.single(), Loader(data, 0 if few else loaders(data.member.training.workers))


def _score(data: ClassifierData, image_ids: list[str], answer: Answer) -> dict[str, float]:
    """AUC of the watched images as 'score'; minus log-loss where only one class is there."""
    labels, (prob, _) = data.prepared.labels(image_ids), _infer(data, image_ids, answer)
    clear = np.clip(prob.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = float(-np.mean(labels * np.log(clear) + (1 - labels) * np.log(1 - clear)))
    found = auc(labels, prob)
    return {"score": -loss if found is None else found, "watched_loss": loss}


def _infer(data: ClassifierData, image_ids: list[str], answer: Answer) -> tuple[np.ndarray, np.ndarray]:
    """Means over the passes, and over the image and the mirrored image: of the logits, and of the features."""
    seen = [(image_id, number) for number in data.passes for image_id in image_ids]
    found, size = [], _size(data)
    for first in range(0, len(seen), size):
        images = channels_last([data.seen(*one)["image"] for one in seen[first : first + size]])
        views = [images, images[:, :, ::-1]] if data.member.hflip_tta else [images]
        found.append([np.mean(part, axis=0) for part in zip(*map(answer, views), strict=True)])
    logits, features = (np.concatenate(part) for part in zip(*found, strict=True))
    logits = logits.reshape(len(data.passes), -1).mean(axis=0, dtype=np.float32)
    features = features.reshape(len(data.passes), len(image_ids), -1).mean(axis=0, dtype=np.float32)
    return 1 / (1 + np.exp(-logits)), features


def _size(data: ClassifierData) -> int:
    """Images that the network is asked about at once; without gradients there is room for more than in training."""
    return max(2 * data.member.training.batch, 32)


def _batches(data: ClassifierData, images: int) -> int:
    """How often an inference asks the network."""
    return -(-images * len(data.passes) // _size(data)) * (1 + data.member.hflip_tta)
