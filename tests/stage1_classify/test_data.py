"""Training examples and inference images of a classifier."""

import numpy as np
import pytest

from cxr.training.augment import Augmentation
from cxr.training.cropping import View
from stage1_classify.data import ClassifierData


def test_examples_are_keyed_and_carry_their_label(data):
    first, again = data.sample("1.2.0", 3), data.sample("1.2.0", 3)
    assert np.array_equal(first["image"], again["image"])
    assert first["image"].shape == (1, 64, 64)
    assert first["image"].dtype == np.uint8
    assert (first["label"], data.sample("1.2.2", 3)["label"]) == (1, 0)
    assert data.batches(0) != data.batches(1)


def test_a_zoomed_positive_keeps_its_lesion(data):
    augment = Augmentation(zoom_in=1)
    member = data.member.model_copy(update={"augment": augment, "view": View(size=64, crop="full")})
    data = ClassifierData(data.prepared, {}, member, data.image_ids, 1)
    lesions = [i for i in data.image_ids if data.prepared.read_mask(i).any()]
    for image_id in lesions:
        bright = (data.prepared.read_image(image_id)[data.prepared.read_mask(image_id) > 0] > 200).sum()
        assert (data.sample(image_id, 0)["image"] > 200).sum() >= bright


@pytest.mark.parametrize("view", [{"random_share": 1.0, "random_low": 0.25, "random_high": 0.4}, {"frame": 160}])
def test_a_crop_without_the_lesion_is_a_negative(data, view):
    """The lesion is the one bright part of the picture."""
    member = data.member.model_copy(
        update={"view": View(size=64, crop="full", **view), "augment": Augmentation(hflip=0.5)}
    )
    data = ClassifierData(data.prepared, {}, member, data.image_ids, 1)
    samples = [data.sample(image_id, epoch) for image_id in data.image_ids for epoch in range(6)]
    bright = [(sample["image"] > 170).sum() for sample in samples]
    sure = [(sample["label"], count > 0) for sample, count in zip(samples, bright, strict=True) if not 0 < count < 40]
    assert all(label == held for label, held in sure)
    lost = [image_id for image_id in data.image_ids if data.prepared.read_mask(image_id).any()
            and 0 in (data.sample(image_id, epoch)["label"] for epoch in range(6))]  # fmt: skip
    assert len(lost) > 3


def test_no_pass_of_inference_sees_what_a_reader_drew(data):
    """A zoom that keeps the lesion in sight is for training: on held-out images it would tell where the lesion is."""
    member = data.member.model_copy(update={"tta_passes": 2, "augment": Augmentation(zoom_in=1)})
    with_masks = ClassifierData(data.prepared, data.boxes, member, data.image_ids, 1)
    before = [with_masks.load_inference_image(image_id, 1)["image"] for image_id in data.image_ids]
    vars(data.prepared)["masks"] = np.zeros_like(data.prepared.masks)
    after = [with_masks.load_inference_image(image_id, 1)["image"] for image_id in data.image_ids]
    np.testing.assert_array_equal(before, after)
