"""Batches for the detector: the whole canvas, moved about with its box; and who is predicted by which model."""

from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from cxr.augment import augmented
from cxr.errors import DataError
from cxr.geometry import Box, resize
from cxr.prepared import Prepared
from cxr.sampling import batches_of
from cxr.views import key
from stage0_bbox.config import Config

LEAST = 4  # pixels: a box moved out of the frame further than that is left where it was


@dataclass(frozen=True)
class BoxData:
    """Training examples of one model; framework-free, keyed by (seed, epoch, image_id)."""

    prepared: Prepared
    boxes: dict[str, Box]
    """Of the images to train on, in the original's pixels."""
    detector: Config
    seed: int

    def batches(self, epoch: int) -> list[list[str]]:
        """`epoch_images` of the images, each as often as any other, but no image twice in a batch if it can be."""
        rng, image_ids, training = key(self.seed, epoch), sorted(self.boxes), self.detector.training
        rounds = -(-self.detector.epoch_images // len(image_ids))
        order = np.concatenate([rng.permutation(len(image_ids)) for _ in range(rounds)])
        return batches_of(image_ids, order[: self.detector.epoch_images], training.batch, training.epoch_batches)

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        """image uint8 [1, s, s], box float32 [4] in its pixels."""
        rng = key(self.seed, epoch, image_id)
        image, box = self.plain(image_id)["image"][0], self.on_network(image_id, self.boxes[image_id])
        image, box = moved(image, box, self.detector, rng)
        image, _ = augmented(self.detector.augment, image, None, rng)
        return {"image": np.ascontiguousarray(image[None]), "box": np.array(box, np.float32)}

    def plain(self, image_id: str) -> dict[str, np.ndarray]:
        """image uint8 [1, s, s] as inference sees it."""
        size = self.detector.size
        return {"image": np.array(resize(self.prepared.image(image_id), size, size)[None])}

    def on_network(self, image_id: str, box: Box) -> Box:
        """A box of the original in the pixels that the network sees."""
        return self.prepared.letterbox(image_id).to_canvas(box).scaled(self.detector.size / self.prepared.size)

    def in_original(self, image_id: str, box: Box) -> Box:
        """The inverse of `on_network`."""
        return self.prepared.letterbox(image_id).to_original(box.scaled(self.prepared.size / self.detector.size))


def moved(image: np.ndarray, box: Box, detector: Config, rng: np.random.Generator) -> tuple[np.ndarray, Box]:
    """Image uint8 [s, s] and its box, mirrored, shifted and zoomed at random; black where nothing was."""
    moves, size = detector.moves, len(image)
    flip = rng.random() < moves.hflip
    scale, shift = 1 + rng.uniform(-moves.zoom, moves.zoom), rng.uniform(-moves.shift, moves.shift, 2) * size
    if flip:
        image, box = image[:, ::-1], Box(size - box.xmax, box.ymin, size - box.xmin, box.ymax)
    dx, dy = (1 - scale) * size / 2 + shift
    there = box.scaled(scale, dx, dy).clipped(size, size)
    if there.width < LEAST or there.height < LEAST:
        return np.ascontiguousarray(image), box
    # OpenCV counts from pixel centres, boxes from pixel edges: half a pixel apart.
    centre = (scale - 1) / 2
    matrix = np.array([[scale, 0, dx + centre], [0, scale, dy + centre]])
    return cv2.warpAffine(np.ascontiguousarray(image), matrix, (size, size)), there


def parts(prepared: Prepared, image_ids: list[str], count: int) -> dict[str, int]:
    """Which of `count` models does not see which boxed image: groups of patients, parts of about equal size.

    Raises DataError with the counts where there are fewer groups than models.
    """
    groups = pd.Series({image_id: group for image_id, group in _groups(prepared).items() if image_id in set(image_ids)})
    sizes = groups.value_counts(sort=False).sort_index(kind="stable").sort_values(ascending=False, kind="stable")
    if len(sizes) < count:
        raise DataError(
            f"too few for a cross-validation of {count} models: {len(image_ids)} boxed training images in "
            f"{len(sizes)} groups of patients; give more boxes"
        )
    part, filled = {}, [0] * count
    for group, images in sizes.items():
        part[group] = int(np.argmin(filled))
        filled[part[group]] += images
    return {image_id: part[group] for image_id, group in groups.items()}


def _groups(prepared: Prepared) -> dict[str, str]:
    """A group for each image that is not a test image, such that a patient is in one alone.

    A cell of fold and subfold never parts a patient, nor near-duplicates where patients are unknown; images
    that have no fold, being unlabelled, go with their patient, or else stand for themselves.
    """
    cells = (prepared.folds["fold"].astype(str) + "/" + prepared.folds["subfold"].astype(str)).to_dict()
    table = prepared.manifest[prepared.manifest["split"] != "test"]
    patients = {i: p for i, p in zip(table.index, table["patient"], strict=True) if isinstance(p, str)}
    homes = {patients[i]: cell for i, cell in cells.items() if i in patients}
    return {i: cells.get(i) or homes.get(patients.get(i)) or f"patient {patients.get(i, i)}" for i in table.index}
