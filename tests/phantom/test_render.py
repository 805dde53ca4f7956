"""One phantom: pure, the same picture at every size, and true to its own geometry."""

import cv2
import numpy as np
import pytest

from phantom import pneumothorax
from phantom.config import default_config
from phantom.lungs import Lung
from phantom.pneumothorax import choose_pneumothoraces
from phantom.render import render_phantom

SIZE = 192


@pytest.fixture(scope="module")
def positives():
    return [render_phantom(3, patient, 0, SIZE, positive=True) for patient in range(24)]


def test_the_same_key_gives_the_same_phantom():
    one, other = render_phantom(3, 1, 2, SIZE), render_phantom(3, 1, 2, SIZE)
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.mask, other.mask)
    assert one.box == other.box


def test_another_key_gives_another_phantom():
    keys = [(3, 1, 0), (3, 1, 1), (3, 2, 0), (4, 1, 0)]
    assert len({render_phantom(*key, SIZE).image.tobytes() for key in keys}) == len(keys)


def test_views_of_a_patient_share_age_and_sex():
    one, other = render_phantom(3, 7, 0, 64), render_phantom(3, 7, 1, 64)
    assert (one.age, one.sex) == (other.age, other.sex)


def test_image_and_mask_have_their_form(positives):
    for phantom in positives:
        assert phantom.image.shape == phantom.mask.shape == (SIZE, SIZE)
        assert phantom.image.dtype == np.uint8
        assert phantom.mask.dtype == bool
        assert phantom.image.std() > 20


def test_a_forced_label_is_obeyed(positives):
    assert all(phantom.positive and phantom.kind for phantom in positives)
    assert not any(render_phantom(3, patient, 0, SIZE, positive=False).mask.any() for patient in range(4))


def test_a_mask_covers_what_the_config_allows(positives):
    config = default_config()
    shares = np.array([phantom.mask.mean() for phantom in positives])
    assert shares.min() > 0.8 * config.least_share
    assert shares.max() < 1.05 * config.most_share
    assert shares.max() > 10 * shares.min()


def test_the_air_lies_within_the_chest_box(positives):
    for phantom in positives:
        xmin, ymin, xmax, ymax = phantom.box
        y, x = np.nonzero(phantom.mask)
        inside = (x >= xmin - 1) & (x <= xmax + 1) & (y >= ymin - 1) & (y <= ymax + 1)
        assert inside.mean() > 0.99


def test_boxes_vary_and_stay_within_the_image(positives):
    boxes = np.array([phantom.box for phantom in positives])
    assert (boxes >= 0).all()
    assert (boxes <= SIZE).all()
    assert (boxes[:, 2:] - boxes[:, :2] > 0.4 * SIZE).all()
    assert (boxes.std(0) > 0.02 * SIZE).all()


def test_the_same_picture_at_another_size():
    large, small = render_phantom(3, 5, 0, 512, positive=True), render_phantom(3, 5, 0, 256, positive=True)
    shrunk = cv2.resize(large.image, (256, 256), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shrunk.ravel(), small.image.ravel())[0, 1] > 0.97
    assert np.allclose(large.box, 2 * np.array(small.box), atol=0.1)
    assert large.mask.mean() == pytest.approx(small.mask.mean(), rel=0.1)


def test_without_tension_only_the_air_differs_from_the_negative():
    patient = next(k for k in range(50) if render_phantom(3, k, 0, 64, positive=True).kind == "lateral")
    with_air, without = (render_phantom(3, patient, 0, SIZE, positive=label) for label in (True, False))
    far = cv2.dilate(with_air.mask.astype(np.uint8), np.ones((61, 61), np.uint8)) == 0
    change = np.abs(with_air.image.astype(int) - without.image)
    assert with_air.box == without.box
    assert np.median(change[far]) <= 3


def test_about_one_in_four_or_five_drawn_freely_is_positive():
    labels = [bool(choose_pneumothoraces(np.random.default_rng(k), None, default_config())) for k in range(400)]
    assert 0.17 < np.mean(labels) < 0.27


def test_a_lung_collapses_to_the_wanted_area():
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    outline = np.stack([6 * np.cos(angle), 12 * np.sin(angle)], -1)
    lung = Lung(1, np.zeros(2), outline, np.ones(90), outline)
    air = pneumothorax.sample_pneumothorax(np.random.default_rng(0), 1, 0.02)
    left = pneumothorax.compute_polygon_area(pneumothorax.collapse_lung(lung, air, 20.0).surface)
    assert pneumothorax.compute_polygon_area(outline) - left == pytest.approx(20, abs=0.1)
