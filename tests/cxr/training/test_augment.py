"""Augmentation: it is keyed, and mask and image stay together."""

import numpy as np
import pytest

from cxr.training.augment import Augmentation, augment_image
from cxr.training.cropping import keyed_rng

EVERYTHING = Augmentation(
    hflip=0.5, rotate=1, shear=1, scale=1, zoom_out=0.5, zoom_in=0.5, gamma={0.5: 1.0}, clahe=1, brightness=1,
    contrast=1, distort=1, noise=1, dropout=1,
)  # fmt: skip
MOVES = {
    "rotate": {"rotate": 1, "rotate_sd": 8}, "limit": {"rotate": 1, "rotate_limit": 10}, "flip": {"hflip": 1},
    "shear": {"shear": 1}, "scale": {"scale": 1, "scale_limit": 0.2}, "out": {"zoom_out": 1}, "in": {"zoom_in": 1},
}  # fmt: skip


def square() -> np.ndarray:
    image = np.zeros((64, 64), np.uint8)
    image[10:30, 8:24] = 255
    return image


def test_augmentation_is_keyed():
    image, mask = np.arange(4096, dtype=np.uint8).reshape(64, 64), np.eye(64, dtype=np.uint8)
    first, again, other = (augment_image(EVERYTHING, image, mask, keyed_rng(1, 2, name)) for name in ("a", "a", "b"))
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("move", MOVES)
def test_mask_moves_with_its_image(move):
    settings, changed = Augmentation(**MOVES[move], border="black"), 0
    for number in range(8):
        moved, mask = augment_image(settings, square(), square() // 255, keyed_rng(number))
        assert np.mean((moved > 127) != (mask > 0)) < 0.02
        changed += not np.array_equal(moved, square())
    assert changed >= 3


def test_zooms_are_of_the_published_size():
    area = (square() > 0).sum()
    for number in range(8):
        _, smaller = augment_image(Augmentation(zoom_out=1), square(), square() // 255, keyed_rng(number))
        assert 0.45 * area < smaller.sum() < 0.87 * area  # .7 to .9 of the side
        _, larger = augment_image(Augmentation(zoom_in=1), square(), square() // 255, keyed_rng(number))
        assert 1.15 * area < larger.sum() < 2.15 * area  # whole, as the window holds the mask


def test_border_is_repeated_or_black():
    bright = np.full((64, 64), 200, np.uint8)
    repeated, _ = augment_image(Augmentation(zoom_out=1), bright, None, keyed_rng(1))
    black, _ = augment_image(Augmentation(zoom_out=1, border="black"), bright, None, keyed_rng(1))
    assert repeated.min() == 200
    assert black[0, 0] == 0


def test_dropout_blackens_the_image_and_leaves_the_mask():
    image, mask = np.full((200, 200), 200, np.uint8), np.ones((200, 200), np.uint8)
    found, kept = augment_image(
        Augmentation(dropout=1, dropout_count=(30, 30), dropout_side=0.02), image, mask, keyed_rng(1)
    )
    assert 200 < (found == 0).sum() <= 30 * 16
    assert kept.all()


def test_contrast_is_within_its_range():
    image = np.array([[100, 140]], np.uint8).repeat(8, 0).repeat(8, 1)
    settings = Augmentation(contrast=1, contrast_range=(0.5, 0.6), clahe_too=False)
    spread = [np.ptp(augment_image(settings, image, None, keyed_rng(number))[0].astype(int)) for number in range(20)]
    assert min(spread) >= 19
    assert max(spread) <= 25
