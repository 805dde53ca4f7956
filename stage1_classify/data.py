"""NumPy examples for the classifiers, the same for every framework: a jittered view of the canvas, and its label."""

from dataclasses import dataclass, replace

import numpy as np

from cxr.augment import augmented
from cxr.geometry import Box, crop, cut_mask
from cxr.prepared import Prepared
from cxr.sampling import batches_of, order
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
        training, positive = self.member.training, self.prepared.labels(self.image_ids) > 0
        rows = order(self.member.sampling, positive, epoch, training.epochs, training.batch, key(self.seed, epoch))
        return batches_of(self.image_ids, rows, training.batch, training.epoch_batches)

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        """image uint8 [1, s, s], label float32: 0 where crop and augmentation leave nothing of the lesion."""
        label = np.float32(self.prepared.manifest.at[image_id, "label"])
        mask = self.prepared.mask(image_id) if self.member.sees_parts and label else None
        image, mask = self._jittered(image_id, key(self.seed, epoch, image_id), mask)
        return {"image": image[None], "label": label if mask is None else np.float32(mask.any())}

    def seen(self, image_id: str, number: int = 0) -> dict[str, np.ndarray]:
        """image uint8 [1, s, s] as a pass of inference sees it: 0 is the plain one, the others are augmented."""
        if number:
            rng = key(self.seed, "pass", number, image_id)
            return {"image": self._jittered(image_id, rng, None)[0][None]}  # no mask: it would tell where to look
        part = region(self.member.view, self.chest(image_id), self.prepared.size)
        return {"image": crop(self.prepared.image(image_id), part, self.member.view.largest)[None]}

    @property
    def passes(self) -> list[int]:
        """Numbers of the passes of inference."""
        return list(range(1, self.member.tta_passes + 1)) or [0]

    @property
    def without_tta(self) -> "ClassifierData":
        """The same examples, which inference passes once and plainly: enough to choose an epoch by."""
        return replace(self, member=self.member.model_copy(update={"hflip_tta": False, "tta_passes": 0}))

    def _jittered(self, image_id: str, rng: np.random.Generator, mask: np.ndarray | None):
        """A view, augmented, uint8 [s, s], and what it leaves of the image's mask."""
        view = self.member.view
        part = drawn_region(view, self.chest(image_id), self.prepared.size, rng)
        image = crop(self.prepared.image(image_id), part, view.size)
        return augmented(self.member.augment, image, None if mask is None else cut_mask(mask, part, view.size), rng)
