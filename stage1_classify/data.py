"""NumPy examples for the classifiers, the same for every framework: a jittered view of the canvas, and its label."""

from dataclasses import dataclass, replace

import numpy as np

from cxr.datasets.prepared import Prepared
from cxr.imaging.geometry import Box, crop_image, crop_mask
from cxr.training.augment import augment_image
from cxr.training.cropping import chest_box_on_canvas, draw_training_region, inference_region, keyed_rng
from cxr.training.sampling import draw_epoch_rows, split_into_batches
from stage1_classify.config import ClassifierConfig


@dataclass(frozen=True)
class ClassifierData:
    """Training examples of one step, keyed by (seed, epoch, image_id)."""

    prepared: Prepared
    boxes: dict[str, Box]
    """In the original's pixels; unused where the member sees the whole frame."""
    member: ClassifierConfig
    image_ids: list[str]
    seed: int

    def locate_chest(self, image_id: str) -> Box:
        """The chest box on the canvas, where the member crops to it."""
        return chest_box_on_canvas(self.member.view, self.prepared, self.boxes, image_id)

    def batches(self, epoch: int) -> list[list[str]]:
        """The epoch's images in batches."""
        training, positive = self.member.training, self.prepared.read_labels(self.image_ids) > 0
        rows = draw_epoch_rows(
            self.member.sampling, positive, epoch, training.epochs, training.batch, keyed_rng(self.seed, epoch)
        )
        return split_into_batches(self.image_ids, rows, training.batch, training.epoch_batches)

    def sample(self, image_id: str, epoch: int) -> dict[str, np.ndarray]:
        """image uint8 [1, s, s], label float32, 0 if crop and augmentation leave nothing of the lesion."""
        label = np.float32(self.prepared.manifest.at[image_id, "label"])
        mask = self.prepared.read_mask(image_id) if self.member.sees_parts and label else None
        image, mask = self._jitter_view(image_id, keyed_rng(self.seed, epoch, image_id), mask)
        return {"image": image[None], "label": label if mask is None else np.float32(mask.any())}

    def load_inference_image(self, image_id: str, number: int = 0) -> dict[str, np.ndarray]:
        """image uint8 [1, s, s] of inference pass `number`: 0 is the plain pass, the others are augmented."""
        if number:
            rng = keyed_rng(self.seed, "pass", number, image_id)
            return {"image": self._jitter_view(image_id, rng, None)[0][None]}  # no mask: it would tell where to look
        view_box = inference_region(self.member.view, self.locate_chest(image_id), self.prepared.size)
        return {
            "image": crop_image(self.prepared.read_image(image_id), view_box, self.member.view.inference_size)[None]
        }

    @property
    def pass_numbers(self) -> list[int]:
        """Numbers of the passes of inference."""
        return list(range(1, self.member.tta_passes + 1)) or [0]

    @property
    def without_tta(self) -> "ClassifierData":
        """The same examples with a single plain inference pass, as validation uses them."""
        return replace(self, member=self.member.model_copy(update={"hflip_tta": False, "tta_passes": 0}))

    def _jitter_view(self, image_id: str, rng: np.random.Generator, mask: np.ndarray | None):
        """A view, augmented, uint8 [s, s], and what it leaves of the image's mask."""
        view = self.member.view
        view_box = draw_training_region(view, self.locate_chest(image_id), self.prepared.size, rng)
        image = crop_image(self.prepared.read_image(image_id), view_box, view.size)
        return augment_image(
            self.member.augment, image, None if mask is None else crop_mask(mask, view_box, view.size), rng
        )
