"""Batches for the segmenters: a jittered view of the canvas, augmented, with its mask, and a label: is any left?"""

from dataclasses import dataclass, replace

import numpy as np

from cxr.augment import augmented
from cxr.geometry import Box, crop, cut_mask, resize, uncrop
from cxr.prepared import Prepared
from cxr.sampling import batches_of, order
from cxr.views import chest, drawn_region, key, region
from stage2_segment.config import SegmenterConfig


@dataclass(frozen=True)
class SegmenterData:
    """Training examples of one unit; framework-free, keyed by (seed, epoch, image_id)."""

    prepared: Prepared
    boxes: dict[str, Box]
    """In the original's pixels; unused where the member sees the whole frame."""
    member: SegmenterConfig
    image_ids: list[str]
    seed: int

    def chest(self, image_id: str) -> Box:
        """The chest box on the canvas, where the member crops to it."""
        return chest(self.member.view, self.prepared, self.boxes, image_id)

    def batches(self, epoch: int) -> list[list[str]]:
        """The epoch's images in batches, each with its share of positives; negatives are drawn anew each epoch."""
        training, positive = self.member.training, self.prepared.labels(self.image_ids) > 0
        rows = order(self.member.sampling, positive, epoch, training.epochs, training.batch, key(self.seed, epoch))
        return batches_of(self.image_ids, rows, training.batch, training.epoch_batches)

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        """image uint8 [1, s, s], mask uint8 [1, s, s] of 0 or 1, label float32: whether any of the mask is left."""
        rng = key(self.seed, epoch, image_id)
        size = self.member.view.size
        seen = drawn_region(self.member.view, self.chest(image_id), self.prepared.size, rng)
        image = crop(self.prepared.image(image_id), seen, size)
        mask = cut_mask(self.prepared.mask(image_id), seen, size)
        image, mask = augmented(self.member.augment, image, mask, rng)
        return {"image": image[None], "mask": mask[None], "label": np.float32(mask.any())}

    def plain(self, image_id: str) -> dict[str, np.ndarray]:
        """image uint8 [1, f, f] as inference sees it; f is view.largest."""
        return {"image": crop(self.prepared.image(image_id), self.seen(image_id), self.member.view.largest)[None]}

    def seen(self, image_id: str) -> Box:
        """What inference sees, on the canvas."""
        return region(self.member.view, self.chest(image_id), self.prepared.size)

    def full_frame(self, image_id: str, patch: np.ndarray) -> np.ndarray:
        """A map of the view [f, f] pasted back into the full frame [f, f]."""
        return uncrop(patch, self.seen(image_id), self.member.view.largest, self.prepared.size)

    @property
    def without_tta(self) -> "SegmenterData":
        """The same examples, which inference passes once and plainly: enough to choose an epoch by."""
        return replace(self, member=self.member.model_copy(update={"hflip_tta": False}))

    def truth(self, image_id: str) -> np.ndarray:
        """The full-frame mask at the size of the member's maps, bool [f, f]."""
        size = self.member.view.largest
        return resize(self.prepared.mask(image_id) * np.uint8(255), size, size) > 127
