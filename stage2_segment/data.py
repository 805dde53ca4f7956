"""Batches for the segmenters: an augmented crop of the canvas, its mask, and whether any of the lesion is in it."""

from dataclasses import dataclass, replace

import numpy as np

from cxr.datasets.prepared import Prepared
from cxr.imaging.geometry import Box, crop_image, crop_mask, paste_crop, resize_image
from cxr.training.augment import augment_image
from cxr.training.cropping import chest_box_on_canvas, draw_training_region, inference_region, keyed_rng
from cxr.training.sampling import draw_epoch_rows, split_into_batches
from stage2_segment.config import SegmenterConfig


@dataclass(frozen=True)
class SegmenterData:
    """Training examples of one step; framework-free, keyed by (seed, epoch, image_id)."""

    prepared: Prepared
    boxes: dict[str, Box]
    """In the original's pixels; unused where the member sees the whole frame."""
    member: SegmenterConfig
    image_ids: list[str]
    seed: int

    def locate_chest(self, image_id: str) -> Box:
        """The chest box on the canvas, where the member crops to it."""
        return chest_box_on_canvas(self.member.view, self.prepared, self.boxes, image_id)

    def batches(self, epoch: int) -> list[list[str]]:
        """The epoch's images in batches, each with its share of positives; negatives are drawn anew each epoch."""
        training, is_positive = self.member.training, self.prepared.read_labels(self.image_ids) > 0
        rng = keyed_rng(self.seed, epoch)
        rows = draw_epoch_rows(self.member.sampling, is_positive, epoch, training.epochs, training.batch, rng)
        return split_into_batches(self.image_ids, rows, training.batch, training.epoch_batches)

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        """image uint8 [1, s, s], mask uint8 [1, s, s] of 0 or 1, label float32: 1 if any of the mask is in the crop."""
        rng = keyed_rng(self.seed, epoch, image_id)
        size = self.member.view.size
        view_box = draw_training_region(self.member.view, self.locate_chest(image_id), self.prepared.size, rng)
        image = crop_image(self.prepared.read_image(image_id), view_box, size)
        mask = crop_mask(self.prepared.read_mask(image_id), view_box, size)
        image, mask = augment_image(self.member.augment, image, mask, rng)
        return {"image": image[None], "mask": mask[None], "label": np.float32(mask.any())}

    def load_inference_image(self, image_id: str) -> dict[str, np.ndarray]:
        """image uint8 [1, f, f] as inference sees it; f is view.inference_size."""
        region, size = self.find_inference_region(image_id), self.member.view.inference_size
        return {"image": crop_image(self.prepared.read_image(image_id), region, size)[None]}

    def find_inference_region(self, image_id: str) -> Box:
        """The region of the canvas that inference sees."""
        return inference_region(self.member.view, self.locate_chest(image_id), self.prepared.size)

    def paste_into_frame(self, image_id: str, patch: np.ndarray) -> np.ndarray:
        """A map of the view [f, f] pasted back into the full frame [f, f]."""
        region, size = self.find_inference_region(image_id), self.member.view.inference_size
        return paste_crop(patch, region, size, self.prepared.size)

    @property
    def without_tta(self) -> "SegmenterData":
        """The same examples without test-time augmentation: one pass is enough to choose an epoch by."""
        return replace(self, member=self.member.model_copy(update={"hflip_tta": False}))

    def load_true_mask(self, image_id: str) -> np.ndarray:
        """The full-frame mask at the size of the member's maps, bool [f, f]."""
        size = self.member.view.inference_size
        return resize_image(self.prepared.read_mask(image_id) * np.uint8(255), size, size) > 127
