"""Crops: what a network sees depends on (seed, epoch, image) alone."""

import numpy as np
import pytest

from cxr.imaging.geometry import Box
from cxr.training.cropping import View, draw_training_region, inference_region, keyed_rng

CHEST = Box(20, 10, 80, 90)


def test_inference_sees_the_box_or_the_frame():
    assert inference_region(View(size=64, crop="box"), CHEST, 100) == CHEST
    assert inference_region(View(size=64, crop="full"), CHEST, 100) == Box(0, 0, 100, 100)


def test_jitter_stays_within_its_bounds_and_the_canvas():
    view = View(size=64, crop="box", jitter=0.1)
    drawn = np.array([draw_training_region(view, CHEST, 100, keyed_rng(number)) for number in range(300)])
    assert (np.abs(drawn - np.array(CHEST)) <= [6, 8, 6, 8]).all()
    assert drawn.std(0).min() > 1
    assert drawn.min() >= 0
    assert drawn.max() <= 100


def test_shares_of_box_random_crop_and_frame():
    view = View(size=64, crop="box", box_share=0.5, random_share=0.3)
    drawn = [draw_training_region(view, CHEST, 100, keyed_rng(number)) for number in range(2000)]
    whole = np.mean([box == Box(0, 0, 100, 100) for box in drawn])
    boxed = np.mean([box == CHEST for box in drawn])
    assert boxed == pytest.approx(0.5, abs=0.04)
    assert whole == pytest.approx(0.35, abs=0.04)


def test_random_squares_of_a_larger_frame():
    view = View(size=64, frame=128, crop="box")
    drawn = np.array([draw_training_region(view, CHEST, 100, keyed_rng(number)) for number in range(200)])
    assert np.allclose(drawn[:, 2:] - drawn[:, :2], [30, 40])  # half of the chest's sides
    assert (drawn[:, :2] >= [20, 10]).all()
    assert (drawn[:, 2:] <= [80, 90]).all()
    assert drawn[:, 0].std() > 5
    assert inference_region(view, CHEST, 100) == CHEST
    assert view.inference_size == 128


def test_a_view_in_small_keeps_to_steps_of_32():
    view = View(size=512, frame=768, crop="full").scale_sides(128 / 768)
    assert (view.size, view.frame) == (96, 128)
    assert View(size=512, crop="full").scale_sides(0.01).size == 32
