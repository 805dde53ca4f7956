"""Classifiers in PyTorch: any timm backbone with a head of cxr.torchkit.heads.

A backend offers download_weights(start, path) and check_network(member), before any work; fit(...) -> metrics;
infer(...) -> (prob, features).
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cxr.torchkit.checkpoint import load_weights
from cxr.torchkit.device import seed_torch, select_device
from cxr.torchkit.loading import load_in_order
from cxr.torchkit.loop import Trainer
from cxr.torchkit.weights import download_weights as download_weights
from cxr.torchkit.weights import set_norm_statistics
from cxr.training.training_state import explain_out_of_memory
from evaluation.metrics import roc_auc
from stage1_classify.config import ClassifierConfig
from stage1_classify.data import ClassifierData
from stage1_classify.timm_members.checks import check_network as check_network
from stage1_classify.timm_members.inference import predict_images
from stage1_classify.timm_members.network import Classifier, build_classifier


def fit(data: ClassifierData, val_ids: list[str], folder: Path, identity: str, label: str, fold: int) -> dict:
    """Train the step's model in `folder`, from its checkpoint where there is one; returns metrics.

    data: examples of the member.
    val_ids: images to validate on; empty: none.
    identity: fingerprint of the step; a checkpoint of another one is not taken up.
    label: what the progress line calls the training.
    fold: that is held out.
    """
    member, device = data.member, select_device()
    seed_torch(data.seed, fold)
    model = build_classifier(member)
    if member.recalibrate:
        sample_ids, training = data.image_ids[: 16 * member.training.batch], member.training
        batches = load_in_order(sample_ids, data.load_inference_image, training.batch, training.workers)
        set_norm_statistics(model, (batch["image"] for batch in batches))
    validate = _build_validator(data, val_ids, device)
    return Trainer(
        model, data, _build_loss(member, device), member.training, folder, identity, device, validate, label
    ).fit()


def infer(data: ClassifierData, image_ids: list[str], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float32 [N] and bottleneck features float32 [N, D] of images under the model in `folder`."""
    model = Classifier(data.member)
    model.load_state_dict(load_weights(folder / "weights.safetensors"))
    with explain_out_of_memory(f"{folder.parent.name}, {folder.name}", data.member.training):
        return predict_images(model, data, image_ids, select_device())


def _build_loss(member: ClassifierConfig, device: torch.device):
    weight, smoothing = torch.tensor(member.positive_weight, device=device), member.label_smoothing

    def compute_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = model.compute_logits(model(batch["image"])).float()
        target = batch["label"] * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)

    return compute_loss


def _build_validator(data: ClassifierData, image_ids: list[str], device: torch.device):
    """A function model -> {'score'}: AUC of the validation images in a plain pass; minus log-loss of a single class."""
    labels = data.prepared.read_labels(image_ids) if image_ids else np.empty(0)
    if len(labels) == 0:
        return None

    def validate_model(model: nn.Module) -> dict[str, float]:
        prob, _ = predict_images(model, data.without_tta, image_ids, device)
        auc_score = roc_auc(labels, prob)
        loss = float(F.binary_cross_entropy(torch.tensor(prob), torch.tensor(labels)))
        return {"score": -loss if auc_score is None else auc_score, "watched_loss": loss}

    return validate_model
