"""Batches for the mask stacker: all members' maps of an image, the image, and its hand-drawn mask."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cxr.geometry import resize
from cxr.prepared import Prepared
from cxr.sampling import batches_of, with_share
from cxr.training import Training
from cxr.views import key
from stage3_stack.config import MaskStackerConfig
from stage3_stack.maps import MeanMap
from stage3_stack.masks import on_canvas


@dataclass(frozen=True)
class MaskData:
    """Training examples of one net; framework-free, keyed by (seed, epoch, image_id)."""

    prepared: Prepared
    maps: dict[str, MeanMap]
    """Of each image: the maps of the fold that it was held out from, or the test's."""
    stacker: MaskStackerConfig
    image_ids: list[str]
    """The images to train on"""
    seed: int

    @cached_property
    def size(self) -> int:
        """Side of the largest member's maps."""
        return max({id(maps): maps.size for maps in self.maps.values()}.values())

    @property
    def training(self) -> Training:
        """As many epochs as hold the steps; the last one is cut short (`batches`)."""
        epochs = -(-self.stacker.steps // self._per_epoch)
        return Training(epochs=epochs, batch=self.stacker.batch, lr=self.stacker.lr, keep="last", seed=self.seed)

    @property
    def _per_epoch(self) -> int:
        return max(len(self.image_ids) // self.stacker.batch, 1)

    def batches(self, epoch: int) -> list[list[str]]:
        """The epoch's images in batches, each with its share of positives."""
        positive = self.prepared.labels(self.image_ids) > 0
        order = with_share(positive, self.stacker.positive_share, self.stacker.batch, key(self.seed, epoch))
        left = self.stacker.steps - epoch * self._per_epoch
        return batches_of(self.image_ids, order, self.stacker.batch)[:left]

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        """maps uint8 [members, s, s], image uint8 [1, s, s], mask uint8 [1, s, s] of 0 or 1; half of them mirrored."""
        mask = on_canvas(self.prepared.mask(image_id), self.size)
        found = self.plain(image_id) | {"mask": mask[None]}
        mirrored = key(self.seed, epoch, image_id).random() < 0.5
        return {name: np.ascontiguousarray(value[..., ::-1]) if mirrored else value for name, value in found.items()}

    def plain(self, image_id: str) -> dict[str, np.ndarray]:
        """maps and image as inference sees them."""
        image = resize(self.prepared.image(image_id), self.size, self.size).copy()  # the file on the disk is read-only
        return {"maps": self.maps[image_id].each(image_id, self.size), "image": image[None]}
