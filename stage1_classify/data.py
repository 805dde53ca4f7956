"""NumPy examples for the classifiers, the same for every framework: a jittered view of the canvas, and its label."""

from dataclasses import dataclass

import numpy as np

from cxr.augment import augmented
from cxr.geometry import Box, crop
from cxr.prepared import Prepared
from cxr.sampling import batches_of, with_share
from cxr.views import chest, drawn_region, key, region
from stage1_classify.config import ClassifierConfig


@dataclass(frozen=True)
class ClassifierData:
    """Training examples of one unit, keyed by (seed, epoch, image_id)."""

    prepared: Prepared
    boxes: dict[str, Box]
    """In the original's pixels; unused where the member sees the whole frame."""
    member: ClassifierConfig
    image_ids: list[str]
    seed: int

    def chest(self, image_id: str) -> Box:
        """The chest box on the canvas, where the member crops to it."""
        return chest(self.member.view, self.prepared, self.boxes, image_id)

    def batches(self, epoch: int) -> list[list[str]]:
        """The epoch's images in batches."""
        rng, size = key(self.seed, epoch), self.member.training.batch
        order = rng.permutation(len(self.image_ids))
        if self.member.balance == "sampler":
            order = with_share(self.prepared.labels(self.image_ids) > 0, self.member.positive_share, size, rng)
        return batches_of(self.image_ids, order, size)

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        """image uint8 [1, s, s], label float32."""
        rng = key(self.seed, epoch, image_id)
        seen = drawn_region(self.member.view, self.chest(image_id), self.prepared.size, rng)
        image = crop(self.prepared.image(image_id), seen, self.member.view.size)
        image, _ = augmented(self.member.augment, image, None, rng)
        return {"image": image[None], "label": np.float32(self.prepared.manifest.at[image_id, "label"])}

    def plain(self, image_id: str) -> dict[str, np.ndarray]:
        """image uint8 [1, s, s] as inference sees it."""
        size = self.prepared.size
        seen = region(self.member.view, self.chest(image_id), size)
        return {"image": crop(self.prepared.image(image_id), seen, self.member.view.size)[None]}
