"""Groups of near-duplicates: equal to those of all pairs, and blank images are in none."""

import cv2
import numpy as np
import pytest

from cxr.datasets import near_duplicates
from cxr.imaging.geometry import Letterbox


def pictures(count: int, seed: int) -> np.ndarray:
    """Smooth pictures of one broad shape, as chests are: uint8 [count, 64, 64]."""
    random = np.random.default_rng(seed)
    broad = cv2.resize(random.uniform(0, 200, (5, 5)), (64, 64), interpolation=cv2.INTER_CUBIC)
    fine = (cv2.resize(random.normal(0, 25, (20, 20)), (64, 64), interpolation=cv2.INTER_CUBIC) for _ in range(count))
    return np.stack([np.clip(broad + part, 0, 255).astype(np.uint8) for part in fine])


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_those_of_all_pairs(seed):
    random = np.random.default_rng(seed)
    number = random.integers(0, 30, 150)
    noise = random.normal(0, 4, (150, 64, 64))
    canvases = np.clip(pictures(30, seed)[number] + noise, 0, 255).astype(np.uint8)
    found = near_duplicates.group_canvases(canvases)
    assert len(set(zip(found, number, strict=True))) == len(set(found)) == len(set(number))


def test_what_only_the_hash_takes_for_the_same_is_not():
    small = [(np.zeros(4, np.uint64), near_duplicates.make_thumbnail(each)) for each in pictures(2, 0)]
    assert near_duplicates.link_pictures(small).tolist() == [0, 1]


def test_many_equal_pictures_cost_nothing():
    """12,089 copies, or blank images, would be 73 million pairs."""
    copy = np.zeros(4, np.uint64), near_duplicates.make_thumbnail(pictures(1, 0)[0])
    assert not near_duplicates.link_pictures([copy] * 12_089).any()
    blank = np.zeros(4, np.uint64), np.zeros((32, 32), np.uint8)
    assert near_duplicates.link_pictures([blank] * 12_089).tolist() == list(range(12_089))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 50), (37, 64), (64, 3)])
@pytest.mark.parametrize("level", [0, 7, 128, 255])
def test_blank_images_are_nobodys_duplicates(height, width, level):
    blank = Letterbox(height, width, 64).image_to_canvas(np.full((height, width), level, np.uint8))
    one, other = pictures(2, 0)
    assert near_duplicates.group_canvases([one, blank, one, blank, other]).tolist() == [0, 1, 0, 3, 4]


@pytest.mark.parametrize("width", [64, 50])
def test_equal_pictures_of_low_contrast_still_are(width):
    dim = Letterbox(64, width, 64).image_to_canvas((pictures(1, 0)[0] // 6)[:, :width] + 100)
    assert near_duplicates.group_canvases([dim, dim]).tolist() == [0, 0]
