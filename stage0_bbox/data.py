"""Batches for the detector: the whole canvas and its box, moved at random; and which model predicts which image."""

from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from cxr.datasets.prepared import Prepared
from cxr.errors import DataError
from cxr.imaging.geometry import Box, resize_image
from cxr.training.augment import augment_image
from cxr.training.cropping import keyed_rng
from cxr.training.sampling import split_into_batches
from stage0_bbox.config import DetectorConfig

MIN_BOX_SIDE = 4  # pixels: a move that leaves less of the box inside the frame is not made


@dataclass(frozen=True)
class BoxData:
    """Training examples of one model; framework-free, keyed by (seed, epoch, image_id)."""

    prepared: Prepared
    boxes: dict[str, Box]
    """Boxes of the images to train on, in the original's pixels."""
    detector: DetectorConfig
    seed: int

    def batches(self, epoch: int) -> list[list[str]]:
        """Batches of `epoch_images` images: permutations of all of them, one after another."""
        rng, image_ids, training = keyed_rng(self.seed, epoch), sorted(self.boxes), self.detector.training
        rounds = -(-self.detector.epoch_images // len(image_ids))
        order = np.concatenate([rng.permutation(len(image_ids)) for _ in range(rounds)])
        rows = order[: self.detector.epoch_images]
        return split_into_batches(image_ids, rows, training.batch, training.epoch_batches)

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        """image uint8 [1, s, s], box float32 [4] in its pixels."""
        rng = keyed_rng(self.seed, epoch, image_id)
        image = self.load_inference_image(image_id)["image"][0]
        box = self.box_to_network(image_id, self.boxes[image_id])
        image, box = move_image_and_box(image, box, self.detector, rng)
        image, _ = augment_image(self.detector.augment, image, None, rng)
        return {"image": np.ascontiguousarray(image[None]), "box": np.array(box, np.float32)}

    def load_inference_image(self, image_id: str) -> dict[str, np.ndarray]:
        """image uint8 [1, s, s] as inference sees it."""
        size = self.detector.size
        return {"image": np.array(resize_image(self.prepared.read_image(image_id), size, size)[None])}

    def box_to_network(self, image_id: str, box: Box) -> Box:
        """A box of the original in the pixels that the network sees."""
        canvas_box = self.prepared.get_letterbox(image_id).box_to_canvas(box)
        return canvas_box.scale_and_shift(self.detector.size / self.prepared.size)

    def box_to_original(self, image_id: str, box: Box) -> Box:
        """The inverse of `box_to_network`."""
        canvas_box = box.scale_and_shift(self.prepared.size / self.detector.size)
        return self.prepared.get_letterbox(image_id).box_to_original(canvas_box)


def move_image_and_box(
    image: np.ndarray, box: Box, detector: DetectorConfig, rng: np.random.Generator
) -> tuple[np.ndarray, Box]:
    """Mirror, shift and zoom an image and its box at random; pixels from outside the image are black.

    image: uint8 [s, s]
    box: in the image's pixels
    detector: its `moves` give probability and limits
    rng: of this image and epoch
    Returns image uint8 [s, s] and box, clipped to the frame.
    """
    moves, size = detector.moves, len(image)
    is_flipped = rng.random() < moves.hflip
    scale, shift = 1 + rng.uniform(-moves.zoom, moves.zoom), rng.uniform(-moves.shift, moves.shift, 2) * size
    if is_flipped:
        image, box = image[:, ::-1], Box(size - box.xmax, box.ymin, size - box.xmin, box.ymax)
    dx, dy = (1 - scale) * size / 2 + shift
    moved_box = box.scale_and_shift(scale, dx, dy).clip_to_frame(size, size)
    if moved_box.width < MIN_BOX_SIDE or moved_box.height < MIN_BOX_SIDE:
        return np.ascontiguousarray(image), box
    # OpenCV counts from pixel centres, boxes from pixel edges: half a pixel apart.
    centre = (scale - 1) / 2
    matrix = np.array([[scale, 0, dx + centre], [0, scale, dy + centre]])
    return cv2.warpAffine(np.ascontiguousarray(image), matrix, (size, size)), moved_box


def assign_folds(prepared: Prepared, image_ids: list[str], count: int) -> dict[str, int]:
    """The fold of each boxed image, of `count` folds of about equal size; a patient is in one fold only.

    Raises DataError with the counts where there are fewer groups of patients than folds.
    """
    boxed_ids, group_by_image = set(image_ids), _group_by_patient(prepared)
    groups = pd.Series({image_id: group for image_id, group in group_by_image.items() if image_id in boxed_ids})
    sizes = groups.value_counts(sort=False).sort_index(kind="stable").sort_values(ascending=False, kind="stable")
    if len(sizes) < count:
        raise DataError(
            f"too few for a cross-validation of {count} models: {len(image_ids)} boxed training images in "
            f"{len(sizes)} groups of patients; give more boxes"
        )
    fold_of_group, fold_sizes = {}, [0] * count
    for group, images in sizes.items():
        fold_of_group[group] = int(np.argmin(fold_sizes))
        fold_sizes[fold_of_group[group]] += images
    return {image_id: fold_of_group[group] for image_id, group in groups.items()}


def _group_by_patient(prepared: Prepared) -> dict[str, str]:
    """A group for each image that is not a test image; a patient is in one group only.

    The cell of fold and subfold is the group: it never splits a patient, nor near-duplicates where patients are
    unknown. Images without a fold (they are unlabelled) get the cell of their patient, or a group for their patient.
    """
    cell_by_image = (prepared.folds["fold"].astype(str) + "/" + prepared.folds["subfold"].astype(str)).to_dict()
    table = prepared.manifest[prepared.manifest["split"] != "test"]
    patient_by_image = {i: p for i, p in zip(table.index, table["patient"], strict=True) if isinstance(p, str)}
    cell_by_patient = {patient_by_image[i]: cell for i, cell in cell_by_image.items() if i in patient_by_image}
    group_by_image = {}
    for image_id in table.index:
        cell = cell_by_image.get(image_id) or cell_by_patient.get(patient_by_image.get(image_id))
        group_by_image[image_id] = cell or f"patient {patient_by_image.get(image_id, image_id)}"
    return group_by_image
