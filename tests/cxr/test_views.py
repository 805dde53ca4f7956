"""Crops, augmentation and sampling: what a network sees depends on (seed, epoch, image) alone."""

import numpy as np
import pytest

from cxr.augment import Augment, augmented
from cxr.geometry import Box
from cxr.sampling import batches_of, with_share
from cxr.views import View, drawn_region, key, region

CHEST = Box(20, 10, 80, 90)
EVERYTHING = Augment(
    hflip=0.5, rotate=1, gamma={0.5: 1.0}, clahe=1, brightness=1, contrast=1, distort=1, noise=1
)  # fmt: skip


def test_inference_sees_the_box_or_the_frame():
    assert region(View(size=64, crop="box"), CHEST, 100) == CHEST
    assert region(View(size=64, crop="full"), CHEST, 100) == Box(0, 0, 100, 100)


def test_jitter_stays_within_its_bounds_and_the_canvas():
    view = View(size=64, crop="box", jitter=0.1)
    drawn = np.array([drawn_region(view, CHEST, 100, key(number)) for number in range(300)])
    assert (np.abs(drawn - np.array(CHEST)) <= [6, 8, 6, 8]).all()
    assert drawn.std(0).min() > 1
    assert drawn.min() >= 0
    assert drawn.max() <= 100


def test_shares_of_box_random_crop_and_frame():
    view = View(size=64, crop="box", box_share=0.5, random_share=0.3)
    drawn = [drawn_region(view, CHEST, 100, key(number)) for number in range(2000)]
    whole = np.mean([box == Box(0, 0, 100, 100) for box in drawn])
    boxed = np.mean([box == CHEST for box in drawn])
    assert boxed == pytest.approx(0.5, abs=0.04)
    assert whole == pytest.approx(0.35, abs=0.04)


def test_augmentation_is_keyed():
    image, mask = np.arange(4096, dtype=np.uint8).reshape(64, 64), np.eye(64, dtype=np.uint8)
    first, again, other = (augmented(EVERYTHING, image, mask, key(1, 2, name)) for name in ("a", "a", "b"))
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_mask_moves_with_its_image():
    image = np.zeros((64, 64), np.uint8)
    image[10:30, 5:20] = 255
    for number in range(8):
        moved, mask = augmented(Augment(hflip=0.5, rotate=1, rotate_sd=8), image, image // 255, key(number))
        assert np.mean((moved > 127) != (mask > 0)) < 0.02


def test_each_batch_has_its_share_of_positives():
    positive = np.arange(40) < 6
    for epoch in range(3):
        rows = with_share(positive, 0.5, 8, key(1, epoch)).reshape(-1, 8)
        assert (positive[rows].sum(1) == 4).all()
    everyone = with_share(positive, 0.5, 8, key(1, 0))
    assert set(np.flatnonzero(positive)) <= set(everyone)


def test_one_class_alone_is_no_error():
    assert sorted(with_share(np.zeros(5, bool), 0.5, 2, key(1))) == [0, 1, 2, 3, 4]


def test_short_last_batch_is_dropped_unless_it_is_the_only_one():
    ids = list("abcdefg")
    assert [len(batch) for batch in batches_of(ids, np.arange(7), 3)] == [3, 3]
    assert batches_of(ids, np.arange(7), 10) == [ids]
