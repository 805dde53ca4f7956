"""From one grid to another, nothing moves by more than a small part of a pixel, whatever the sizes.

What is expected follows from arithmetic alone: a smooth spot's centroid, a bright area's edges by its sum, a ramp's
values, which tell their own place.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.datasets.prepared import Prepared
from cxr.imaging.geometry import Box, Letterbox, paste_crop, resize_image, snap_to_pixels
from cxr.training.augment import Augmentation, augment_image
from cxr.training.cropping import View, draw_training_region, keyed_rng
from stage1_classify import config as classify
from stage1_classify.cam import paste_on_canvas
from stage1_classify.data import ClassifierData
from stage2_segment import config as segment
from stage2_segment.data import SegmenterData
from stage3_stack.postprocessing.components import restore_map

SHAPES = [(1000, 813, 512), (813, 1001, 330), (1531, 1999, 1024), (61, 100, 50), (300, 299, 256)]


def spot(height: int, width: int, y: float, x: float, radius: float) -> np.ndarray:
    """A Gaussian of 0..255; y and x: its centre, counted from the image's edge."""
    rows, columns = np.ogrid[0.5:height, 0.5:width]
    return (255 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * radius**2))).astype(np.float32)


def centroid(image: np.ndarray) -> np.ndarray:
    """y and x from the image's edge."""
    return np.array([np.average(np.arange(side) + 0.5, weights=image.astype(float).sum(axis=1 - axis))
                     for axis, side in enumerate(image.shape)])  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "target"), [((300, 900), (512, 512)), ((900, 310), (480, 512)), ((64, 64), (100, 37))]
)
def test_resize_where_one_side_grows_and_the_other_shrinks(shape, target):
    place = np.multiply(shape, (0.37, 0.61))
    moved = centroid(resize_image(spot(*shape, *place, 0.06 * min(shape)), *target))
    np.testing.assert_allclose(moved, place * np.divide(target, shape), atol=0.01)
    for axis in np.flatnonzero(np.less(target, shape)):  # a line of one pixel keeps its weight wherever it lies
        lines = np.eye(shape[axis], dtype=np.float32)[5:-5:7]
        shares = [resize_image(np.broadcast_to(line[:, None] if axis == 0 else line, shape).copy(), *target).mean()
                  for line in lines]  # fmt: skip
        np.testing.assert_allclose(shares, 1 / shape[axis], rtol=0.01)


@pytest.mark.parametrize(("height", "width", "size"), SHAPES)
def test_a_box_lies_on_the_canvas_where_its_pixels_lie(height, width, size):
    letterbox, box = Letterbox(height, width, size), Box(width // 5, height // 3, width, height - 7)
    image = np.zeros((height, width), np.float32)
    image[box.ymin : box.ymax, box.xmin : box.xmax] = 1
    canvas, found = letterbox.image_to_canvas(image), letterbox.box_to_canvas(box)
    rows, columns = (canvas.sum(axis=axis) / canvas.sum(axis=axis).max() for axis in (1, 0))
    np.testing.assert_allclose((columns.sum(), rows.sum()), (found.width, found.height), atol=0.01)
    middle = ((found.ymin + found.ymax) / 2, (found.xmin + found.xmax) / 2)
    np.testing.assert_allclose(centroid(canvas), middle, atol=0.01)
    np.testing.assert_allclose(letterbox.box_to_original(found), box)


def test_the_whole_image_takes_no_pixel_of_the_bars():
    for height, width in np.random.default_rng(0).integers(200, 3000, (300, 2)).tolist():
        letterbox = Letterbox(height, width, 512)
        xmin, ymin, xmax, ymax = snap_to_pixels(letterbox.box_to_canvas(Box(0, 0, width, height)), 512)
        assert (ymax - ymin, xmax - xmin) == letterbox.content_size
        assert (xmin, ymin) == letterbox.content_offset


@pytest.mark.parametrize(("height", "width", "size"), SHAPES)
@pytest.mark.parametrize("side", [128, 352, 704])
def test_a_map_of_another_size_is_restored_to_its_place(height, width, size, side):
    letterbox = Letterbox(height, width, size)
    (inner_height, inner_width), (dx, dy) = letterbox.content_size, letterbox.content_offset
    at = (np.arange(side) + 0.5) * size / side  # of the map's pixels, on the canvas
    x, y = (at - dx) * width / inner_width, (at - dy) * height / inner_height
    for axis, ramp, length in ((1, x, width), (0, y, height)):
        values = np.broadcast_to(ramp if axis == 1 else ramp[:, None], (side, side)).astype(np.float32)
        found = restore_map(np.ascontiguousarray(values), letterbox).mean(axis=1 - axis)
        edge = int(np.ceil(length / side * 2)) + 2  # a map's pixel at the border is repeated outwards
        expected, tolerance = np.arange(length) + 0.5, 0.05 * max(max(height, width) / side, 2)
        np.testing.assert_allclose(found[edge:-edge], expected[edge:-edge], atol=tolerance)


@pytest.mark.parametrize("side", [64, 300, 512, 700])
def test_a_crop_is_pasted_to_the_very_pixels_that_it_was_taken_from(side):
    box, canvas = Box(101.3, 60.8, 402.6, 555.1), 640
    taken = np.array([101, 60, 403, 556]) * side / canvas  # xmin, ymin, xmax, ymax: `crop` takes whole pixels
    pasted = paste_crop(np.full((320, 320), 200, np.uint8), box, side, canvas)
    rows, columns = (pasted.sum(axis=axis) / pasted.sum(axis=axis).max() for axis in (1, 0))
    np.testing.assert_allclose((columns.sum(), rows.sum()), (taken[2] - taken[0], taken[3] - taken[1]), atol=0.01)
    np.testing.assert_allclose(centroid(pasted), ((taken[1] + taken[3]) / 2, (taken[0] + taken[2]) / 2), atol=0.01)
    assert (pasted.max(), pasted.min()) == (200, 0)
    ramp = np.broadcast_to(np.arange(320) + 0.5, (320, 320)).astype(np.float32)
    found, inside = paste_crop(ramp, box, side, canvas)[side // 2], slice(int(taken[0]) + 2, int(taken[2]) - 2)
    expected = (np.arange(side) + 0.5 - taken[0]) * 320 / (taken[2] - taken[0])
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.1)


def in_memory(height: int, width: int, image: np.ndarray) -> Prepared:
    """One image 'i' on its canvas, without files."""
    prepared = Prepared(Path("in memory"))
    vars(prepared).update(
        pixels=image[None], index=pd.DataFrame({"row": [0], "mask_row": [-1]}, index=["i"]),
        manifest=pd.DataFrame({"height": [height], "width": [width], "label": [1.0]}, index=["i"]),
    )  # fmt: skip
    return prepared


@pytest.mark.parametrize(
    ("height", "width", "canvas", "view"),
    [
        (1000, 813, 512, View(size=256, crop="box")),
        (813, 1001, 384, View(size=224, crop="box")),
        (600, 901, 512, View(size=160, frame=352, crop="box")),
        (813, 1001, 330, View(size=224, crop="full")),
    ],
)
def test_what_a_segmenter_sees_comes_back_to_its_place(height, width, canvas, view):
    """A segmenter that answers with what it sees: through crop, paste and restore the spot stays where it was."""
    place, box = (0.44 * height, 0.53 * width), Box(0.1237 * width, 0.2113 * height, 0.8391 * width, 0.7778 * height)
    prepared = in_memory(
        height, width, Letterbox(height, width, canvas).image_to_canvas(spot(height, width, *place, 25))
    )
    member = segment.read_member("smoke").model_copy(update={"view": view})
    data = SegmenterData(prepared, {"i": box}, member, ["i"], 1)
    answer = data.paste_into_frame("i", data.load_inference_image("i")["image"][0])
    np.testing.assert_allclose(centroid(restore_map(answer, prepared.get_letterbox("i"))), place, atol=0.1)


def test_a_grad_cam_lies_where_the_member_looked():
    """In pixels of the canvas, whose crop is of whole pixels."""
    prepared, box = in_memory(600, 901, np.zeros((384, 384), np.uint8)), Box(101.3, 77.7, 700.9, 555.5)
    data = ClassifierData(prepared, {"i": box}, classify.read_member("smoke"), ["i"], 1)
    seen = Letterbox(600, 901, 384).box_to_canvas(box)
    low, high = np.floor(seen[:2]) / 3, np.ceil(seen[2:]) / 3  # 384 -> 128
    cam = paste_on_canvas(data, "i", np.ones((7, 7), np.float32)) / 255
    np.testing.assert_allclose((cam.sum(1).max(), cam.sum(0).max()), high - low, atol=0.02)
    np.testing.assert_allclose(centroid(cam), (low + high)[::-1] / 2, atol=0.02)


class Lowest:
    """Random numbers that are always the lowest that may be drawn, so that every chance above 0 is taken."""

    def random(self) -> float:
        return 0.0

    def uniform(self, low: float, high: float) -> float:
        return low


@pytest.mark.parametrize("settings", [{"rotate": 1, "rotate_limit": 20}, {"shear": 1}, {"scale": 1}, {"zoom_out": 1}])
def test_turn_shear_and_scale_are_about_the_middle(settings):
    image = np.rint(spot(64, 96, 32, 48, 6)).astype(np.uint8)
    moved, mask = augment_image(
        Augmentation(border="black", **settings), image, (image > 100).astype(np.uint8), Lowest()
    )
    np.testing.assert_allclose(centroid(moved), (32, 48), atol=0.05)
    np.testing.assert_allclose(centroid(mask), (32, 48), atol=0.15)
    assert not np.array_equal(moved, image)


def test_a_zoom_shows_the_window_that_was_drawn():
    """The lowest: .7 of the sides, from the upper left corner on."""
    ramp = np.broadcast_to(2 * np.arange(100), (100, 100)).astype(np.uint8)
    moved, _ = augment_image(Augmentation(zoom_in=1), ramp, None, Lowest())
    expected = 0.7 * (np.arange(100) + 0.5) - 0.5
    assert np.mean(moved[50, 5:95] / 2 - expected[5:95]) == pytest.approx(0, abs=0.03)


def test_squares_of_a_frame_of_the_canvas_own_size_are_not_resampled():
    view = View(size=128, frame=192, crop="full")
    for number in range(20):
        drawn = draw_training_region(view, Box(0, 0, 192, 192), 192, keyed_rng(number))
        assert snap_to_pixels(drawn, 192) == drawn
        assert (drawn.width, drawn.height) == (128, 128)
