"""Classifiers in Keras on TensorFlow: efficientnet.tfkeras, Xception and VGG16 with the heads of network.py.

It offers what timm_members.backend does: download_weights(start, path) and check_network(member), before any work;
fit(...) -> metrics; infer(...) -> (prob, features); and count_parameters(member), for docs/published-systems.md.
"""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from cxr.errors import UsageError
from cxr.processes import count_loaders
from cxr.training.training_state import explain_out_of_memory
from evaluation.metrics import roc_auc
from stage1_classify.config import ClassifierConfig
from stage1_classify.data import ClassifierData
from stage1_classify.keras_members import device, records
from stage1_classify.keras_members.device import configure_tensorflow, set_precision
from stage1_classify.keras_members.loading import TrainingLoader, stack_channels_last
from stage1_classify.keras_members.loop import Trainer, count_steps
from stage1_classify.keras_members.network import build_network
from stage1_classify.keras_members.start_weights import build_classifier
from stage1_classify.keras_members.start_weights import download_weights as download_weights
from stage1_classify.keras_members.train_step import MIN_GRAPH_STEPS, build_batch_predictor

_fitted_models: dict[Path, keras.Model] = {}  # the network just trained: to build and read one again takes seconds
PredictBatch = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def fit(data: ClassifierData, val_ids: list[str], folder: Path, identity: str, label: str, fold: int) -> dict:
    """Train the step's model in `folder`, from its checkpoint where there is one; returns metrics.

    data: examples of the member.
    val_ids: images to validate on; empty: none.
    identity: fingerprint of the step; a checkpoint of another one is not taken up.
    label: what the progress line calls the training.
    fold: that is held out.
    """
    _reset_session(data.member)
    strategy, loader = _open_loader(data)
    with strategy.scope():
        keras.utils.set_random_seed(int(np.random.SeedSequence((data.seed, fold)).generate_state(1)[0]))
        model = build_classifier(data.member)
    predict_batch = build_batch_predictor(model, count_steps(data) < MIN_GRAPH_STEPS)
    validate = (lambda: _score_images(data.without_tta, val_ids, predict_batch)) if val_ids else None
    try:
        metrics = Trainer(model, data, loader, folder, identity, validate, label, strategy).fit()
    finally:
        loader.close()
    _fitted_models.clear()
    _fitted_models[folder] = model
    return metrics


def infer(data: ClassifierData, image_ids: list[str], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float32 [N] and bottleneck features float32 [N, D] of images under the model in `folder`."""
    model = _fitted_models.pop(folder, None) or _load_model(data.member, folder)
    with explain_out_of_memory(f"{folder.parent.name}, {folder.name}", data.member.training):
        return _run_inference(
            data,
            image_ids,
            build_batch_predictor(model, _count_inference_batches(data, len(image_ids)) < MIN_GRAPH_STEPS),
        )


def check_network(member: ClassifierConfig) -> None:
    """Build the network with its start weights; UsageError names the key that cannot be had."""
    problem = _find_keras_limit(member)
    if problem:
        raise UsageError(problem)
    _reset_session(member)
    build_classifier(member)


def count_parameters(member: ClassifierConfig) -> int:
    """Numbers in all of the network's tensors, batch norm's statistics among them."""
    _reset_session(member)
    return build_network(member).count_params()


def _reset_session(member: ClassifierConfig) -> None:
    configure_tensorflow()
    keras.utils.clear_session()  # of a member before this one
    set_precision(member.training.amp)


def _load_model(member: ClassifierConfig, folder: Path) -> keras.Model:
    _reset_session(member)
    model = build_network(member)
    model.load_weights(folder / "weights.keras")
    return model


def _find_keras_limit(member: ClassifierConfig) -> str | None:
    """The first setting, by its key, that Keras cannot do; None where there is none."""
    training = member.training
    if training.schedule == "onecycle" and training.optimizer == "sgd":
        return "training.optimizer: Keras's sgd keeps its momentum, which onecycle moves; take another optimizer"
    return records.find_record_problem(member) if member.input == "tfrecord" else None


def _open_loader(data: ClassifierData):
    """The devices to train on, and the loader of their batches."""
    if data.member.input == "tfrecord":
        strategy = device.choose_strategy()
        return strategy, records.RecordLoader(data, strategy)
    is_short = count_steps(data) < MIN_GRAPH_STEPS  # a process takes seconds to start
    return device.default_strategy(), TrainingLoader(
        data, 0 if is_short else count_loaders(data.member.training.workers)
    )


def _score_images(data: ClassifierData, image_ids: list[str], predict_batch: PredictBatch) -> dict[str, float]:
    """AUC of the validation images as 'score'; minus log-loss if only one class is present."""
    labels, (prob, _) = data.prepared.read_labels(image_ids), _run_inference(data, image_ids, predict_batch)
    clipped_prob = np.clip(prob.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = float(-np.mean(labels * np.log(clipped_prob) + (1 - labels) * np.log(1 - clipped_prob)))
    auc_score = roc_auc(labels, prob)
    return {"score": -loss if auc_score is None else auc_score, "watched_loss": loss}


def _run_inference(
    data: ClassifierData, image_ids: list[str], predict_batch: PredictBatch
) -> tuple[np.ndarray, np.ndarray]:
    """Means over the passes, and over the image and the mirrored image: of the logits, and of the features."""
    sample_keys = [(image_id, number) for number in data.pass_numbers for image_id in image_ids]
    outputs, batch_size = [], _inference_batch_size(data)
    for first in range(0, len(sample_keys), batch_size):
        images = stack_channels_last(
            [data.load_inference_image(*sample_key)["image"] for sample_key in sample_keys[first : first + batch_size]]
        )
        views = [images, images[:, :, ::-1]] if data.member.hflip_tta else [images]
        outputs.append([np.mean(values, axis=0) for values in zip(*map(predict_batch, views), strict=True)])
    logits, features = (np.concatenate(values) for values in zip(*outputs, strict=True))
    logits = logits.reshape(len(data.pass_numbers), -1).mean(axis=0, dtype=np.float32)
    features = features.reshape(len(data.pass_numbers), len(image_ids), -1).mean(axis=0, dtype=np.float32)
    return 1 / (1 + np.exp(-logits)), features


def _inference_batch_size(data: ClassifierData) -> int:
    """Batch size of inference: larger than in training, as no gradients take memory."""
    return max(2 * data.member.training.batch, 32)


def _count_inference_batches(data: ClassifierData, images: int) -> int:
    """Number of forward passes of an inference."""
    return -(-images * len(data.pass_numbers) // _inference_batch_size(data)) * (1 + data.member.hflip_tta)
