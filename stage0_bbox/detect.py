"""Detections in every image by the cross-validation's models."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr import tables
from cxr.errors import UsageError
from cxr.imaging.geometry import Box
from cxr.training.training_state import explain_out_of_memory
from stage0_bbox.data import BoxData

DETECTIONS = {"image_id": "str", "xmin": "float", "ymin": "float", "xmax": "float", "ymax": "float", "score": "float"}
"""The best box of each image in the original's pixels, before threshold and margin; score 0: nothing was detected."""


def write_detections(weights: list[Path], data: BoxData, fold_by_image: dict[str, int], file: Path) -> None:
    """Write DETECTIONS of all prepared images.

    A boxed training image is detected by the model that did not see its patient, every other image by all models, whose
    boxes are averaged by score.

    weights: a file for each fold's model
    data: where the images are read from
    fold_by_image: the held-out fold of each boxed training image
    file: the CSV to write
    Raises UsageError where weights are missing or another detector's.
    """
    from cxr.torchkit.device import select_device
    from stage0_bbox.network import Detector

    all_ids, detections_by_image = data.prepared.manifest.index.tolist(), {}
    for fold, path in enumerate(weights):
        model = Detector(data.detector)
        _load_detector_weights(model, path)
        model_ids = [image_id for image_id in all_ids if fold_by_image.get(image_id, fold) == fold]
        with explain_out_of_memory(f"stage 0, detections of {path.parent.name}", data.detector.training):
            for key, edges, score in _detect_images(model, data, model_ids, select_device()):
                detections_by_image.setdefault(key, []).append((edges, score))
    rows = [
        (key, *_map_detection_to_original(data, key, *merge_detections(*zip(*detections_by_image[key], strict=True))))
        for key in all_ids
    ]
    tables.write_table(pd.DataFrame(rows, columns=list(DETECTIONS)), file, DETECTIONS)


def _load_detector_weights(model, path: Path) -> None:
    from cxr.torchkit.checkpoint import load_weights

    if not path.is_file():
        raise UsageError(f"{path} is missing; it is made by: python -m stage0_bbox.train")
    try:
        model.load_state_dict(load_weights(path))
    except RuntimeError:
        raise UsageError(f"{path} is of another detector; train anew: python -m stage0_bbox.train") from None


def _detect_images(model, data: BoxData, image_ids: list[str], device):
    """Yield (image_id, edges [4] in the network's pixels, score)."""
    import torch

    from cxr.torchkit.device import full_precision, move_batch
    from cxr.torchkit.loading import load_in_order

    model.to(device, memory_format=torch.channels_last).eval()
    remaining_ids, training = iter(image_ids), data.detector.training
    for batch in load_in_order(image_ids, data.load_inference_image, 2 * training.batch, training.workers):
        with torch.inference_mode(), full_precision(device):
            edges, scores = model(move_batch(batch, device)["image"])
        for box_edges, score in zip(edges.cpu().numpy(), scores.cpu().numpy(), strict=True):
            yield next(remaining_ids), box_edges, float(score)


def merge_detections(edges: tuple[np.ndarray, ...], scores: tuple[float, ...]) -> tuple[np.ndarray, float]:
    """The mean [4] of the models' boxes, weighted by score, and the mean score; zeros where no model detected one."""
    total = sum(scores)
    if total == 0:
        return np.zeros(4), 0.0
    return sum(e * s for e, s in zip(edges, scores, strict=True)) / total, total / len(scores)


def _map_detection_to_original(data: BoxData, key: str, edges: np.ndarray, score: float) -> tuple[float, ...]:
    box = data.box_to_original(key, Box(*map(float, edges))) if score else Box(0, 0, 0, 0)
    return (*box, score)


def read_detections(file: Path) -> pd.DataFrame:
    """DETECTIONS, indexed by image_id."""
    return tables.read_table(file, DETECTIONS, "python -m stage0_bbox.train").set_index("image_id")
