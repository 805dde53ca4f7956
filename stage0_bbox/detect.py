"""Detections in every image by the cross-validation's models."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr import tables
from cxr.course import explain_memory
from cxr.errors import UsageError
from cxr.geometry import Box
from stage0_bbox.data import BoxData

DETECTIONS = {"image_id": "str", "xmin": "float", "ymin": "float", "xmax": "float", "ymax": "float", "score": "float"}
"""The best box of each image in the original's pixels, before threshold and margin; score 0: nothing was found."""


def detect(weights: list[Path], data: BoxData, part: dict[str, int], file: Path) -> None:
    """Write DETECTIONS of all prepared images: a boxed training image by the model that did not see its patient,
    every other by all models, their boxes averaged by score."""
    from cxr.torchkit.device import device
    from stage0_bbox.model import Detector

    everything, by_image = data.prepared.manifest.index.tolist(), {}
    for number, path in enumerate(weights):
        model = Detector(data.detector)
        _load(model, path)
        ids = [image_id for image_id in everything if part.get(image_id, number) == number]
        with explain_memory(f"stage 0, detections of {path.parent.name}", data.detector.training):
            for key, edges, score in _detections(model, data, ids, device()):
                by_image.setdefault(key, []).append((edges, score))
    rows = [(key, *_in_original(data, key, *merged(*zip(*by_image[key], strict=True)))) for key in everything]
    tables.write(pd.DataFrame(rows, columns=list(DETECTIONS)), file, DETECTIONS)


def _load(model, path: Path) -> None:
    from cxr.torchkit.checkpoint import load_weights

    if not path.is_file():
        raise UsageError(f"{path} is missing; it is made by: python -m stage0_bbox.train")
    try:
        model.load_state_dict(load_weights(path))
    except RuntimeError:
        raise UsageError(f"{path} is of another detector; train anew: python -m stage0_bbox.train") from None


def _detections(model, data: BoxData, image_ids: list[str], on):
    """Yield (image_id, edges [4] in the network's pixels, score)."""
    import torch

    from cxr.torchkit.device import full_precision, move
    from cxr.torchkit.loading import in_order

    model.to(on, memory_format=torch.channels_last).eval()
    waiting, training = iter(image_ids), data.detector.training
    for batch in in_order(image_ids, data.plain, 2 * training.batch, training.workers):
        with torch.inference_mode(), full_precision(on):
            edges, scores = model(move(batch, on)["image"])
        for one, score in zip(edges.cpu().numpy(), scores.cpu().numpy(), strict=True):
            yield next(waiting), one, float(score)


def merged(edges: tuple[np.ndarray, ...], scores: tuple[float, ...]) -> tuple[np.ndarray, float]:
    """One box of several models': their mean by score, and the mean score."""
    total = sum(scores)
    if total == 0:
        return np.zeros(4), 0.0
    return sum(e * s for e, s in zip(edges, scores, strict=True)) / total, total / len(scores)


def _in_original(data: BoxData, key: str, edges: np.ndarray, score: float) -> tuple[float, ...]:
    box = data.in_original(key, Box(*map(float, edges))) if score else Box(0, 0, 0, 0)
    return (*box, score)


def read(file: Path) -> pd.DataFrame:
    """DETECTIONS, indexed by image_id."""
    return tables.read(file, DETECTIONS, "python -m stage0_bbox.train").set_index("image_id")
