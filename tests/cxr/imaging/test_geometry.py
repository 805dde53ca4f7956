"""Boxes, letterbox and crop: what goes there comes back."""

import numpy as np
import pytest

from cxr.imaging.geometry import Box, Letterbox, box_iou, crop_image, paste_crop, resize_image, snap_to_pixels

SHAPES = [(64, 64), (100, 60), (37, 90), (1, 50), (300, 299), (16, 16)]


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_letterbox_keeps_the_proportions_and_centres(height, width):
    box = Letterbox(height, width, 64)
    canvas = box.image_to_canvas(np.full((height, width), 200, np.uint8))
    assert canvas.shape == (64, 64)
    ys, xs = np.flatnonzero(canvas.any(axis=1)), np.flatnonzero(canvas.any(axis=0))
    assert set(np.unique(canvas)) <= {0, 200}
    assert max(len(ys), len(xs)) == 64
    for found, side in ((ys, height), (xs, width)):
        assert abs(len(found) - max(side * 64 / max(height, width), 1)) <= 0.5
        assert abs((found[0]) - (63 - found[-1])) <= 1


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_letterbox_restores_a_smooth_image(height, width):
    ramp = np.add.outer(np.linspace(0, 100, height), np.linspace(0, 100, width)).astype(np.float32)
    box = Letterbox(height, width, 256)
    np.testing.assert_allclose(box.image_to_original(box.image_to_canvas(ramp)), ramp, atol=4)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_boxes_go_to_the_canvas_and_back(height, width):
    letterbox, box = Letterbox(height, width, 64), Box(0.25 * width, 0.1 * height, width, 0.8 * height)
    np.testing.assert_allclose(letterbox.box_to_original(letterbox.box_to_canvas(box)), box)


def test_a_box_lands_where_its_pixels_land():
    image = np.zeros((100, 60), np.uint8)
    image[20:80, 10:40] = 255
    letterbox = Letterbox(100, 60, 50)
    canvas = letterbox.image_to_canvas(image) > 127
    ys, xs = np.flatnonzero(canvas.any(axis=1)), np.flatnonzero(canvas.any(axis=0))
    box = letterbox.box_to_canvas(Box(10, 20, 40, 80))
    assert (xs[0], ys[0], xs[-1] + 1, ys[-1] + 1) == pytest.approx(box, abs=0.5)


def test_area_average_when_shrinking():
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 200
    assert np.ptp(resize_image(checks.astype(np.uint8), 32, 32)) == 0


def test_uncrop_is_the_inverse_of_crop():
    canvas = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    box = Box(8, 16, 40, 48)  # 32 x 32: the crop of that size moves no value
    outside = np.ones((64, 64), bool)
    outside[16:48, 8:40] = False
    pasted = paste_crop(crop_image(canvas, box, 32), box, 64)
    np.testing.assert_array_equal(pasted[~outside], canvas[~outside])
    assert not pasted[outside].any()


@pytest.mark.parametrize("box", [Box(3.4, 5.6, 50.2, 40.9), Box(-5, -5, 70, 80), Box(60, 60, 64, 64), Box(9, 9, 9, 9)])
def test_uncrop_of_a_larger_crop_keeps_a_smooth_map(box):
    canvas = np.add.outer(np.arange(64), np.arange(64)).astype(np.float32)
    pasted = paste_crop(crop_image(canvas, box, 128), box, 64)
    xmin, ymin, xmax, ymax = snap_to_pixels(box, 64)
    inside = (slice(ymin, ymax), slice(xmin, xmax))
    np.testing.assert_allclose(pasted[inside], canvas[inside], atol=1)
    assert pasted.sum() == pytest.approx(pasted[inside].sum())


def test_iou_by_hand():
    a = [[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 2, 2], [0, 0, 4, 4]]
    b = [[0, 0, 10, 10], [5, 0, 15, 10], [2, 2, 4, 4], [1, 1, 3, 3]]
    np.testing.assert_allclose(box_iou(a, b), [1, 1 / 3, 0, 1 / 4])


def test_grown_and_clipped():
    assert Box(10, 20, 30, 60).grow_by_margin(0.1) == Box(8, 16, 32, 64)
    assert Box(-1, 2, 80, 50).clip_to_frame(64, 40) == Box(0, 2, 64, 40)
