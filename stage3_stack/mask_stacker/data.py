"""Batches for the mask stacker: all members' maps of an image, the image, and its hand-drawn mask."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cxr.datasets.prepared import Prepared
from cxr.imaging.geometry import resize_image
from cxr.training.cropping import keyed_rng
from cxr.training.sampling import balance_batches, split_into_batches
from cxr.training.settings import Training
from stage3_stack.config import MaskStackerConfig
from stage3_stack.postprocessing.final_masks import resize_mask
from stage3_stack.postprocessing.mean_maps import MeanMap


@dataclass(frozen=True)
class MaskData:
    """Training examples of one network; framework-free, keyed by (seed, epoch, image_id)."""

    prepared: Prepared
    mean_map_of_image: dict[str, MeanMap]
    """For each image the maps of the fold that it was held out from, or those of the test"""
    stacker: MaskStackerConfig
    image_ids: list[str]
    """The images to train on"""
    seed: int

    @cached_property
    def size(self) -> int:
        """Side of the largest member's maps."""
        return max({id(mean_map): mean_map.size for mean_map in self.mean_map_of_image.values()}.values())

    @property
    def training(self) -> Training:
        """Enough epochs for the steps; the last epoch has fewer batches (`batches`)."""
        epochs = -(-self.stacker.steps // self._per_epoch)
        return Training(epochs=epochs, batch=self.stacker.batch, lr=self.stacker.lr, keep="last", seed=self.seed)

    @property
    def _per_epoch(self) -> int:
        return max(len(self.image_ids) // self.stacker.batch, 1)

    def batches(self, epoch: int) -> list[list[str]]:
        """The epoch's images in batches, each with its share of positives."""
        is_positive = self.prepared.read_labels(self.image_ids) > 0
        rng = keyed_rng(self.seed, epoch)
        order = balance_batches(is_positive, self.stacker.positive_share, self.stacker.batch, rng)
        steps_left = self.stacker.steps - epoch * self._per_epoch
        return split_into_batches(self.image_ids, order, self.stacker.batch)[:steps_left]

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        """maps uint8 [members, s, s], image uint8 [1, s, s], mask uint8 [1, s, s] of 0 or 1; half of them mirrored."""
        mask = resize_mask(self.prepared.read_mask(image_id), self.size)
        example = self.load_inputs(image_id) | {"mask": mask[None]}
        is_mirrored = keyed_rng(self.seed, epoch, image_id).random() < 0.5
        if not is_mirrored:
            return example
        return {name: np.ascontiguousarray(value[..., ::-1]) for name, value in example.items()}

    def load_inputs(self, image_id: str) -> dict[str, np.ndarray]:
        """maps uint8 [members, s, s] and image uint8 [1, s, s], not mirrored."""
        image = resize_image(self.prepared.read_image(image_id), self.size, self.size)
        image = image.copy()  # the file on the disk is read-only
        return {"maps": self.mean_map_of_image[image_id].read_members(image_id, self.size), "image": image[None]}
