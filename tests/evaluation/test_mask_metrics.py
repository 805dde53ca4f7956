"""One mask beside another: lesions and surface distance, as MONAI and scipy count them."""

import numpy as np
import pandas as pd
import pytest
import torch
from monai.metrics import compute_dice, compute_iou, compute_surface_dice
from scipy import ndimage

from evaluation.mask_metrics import compare_masks, surface_dice
from evaluation.panel import compute_panel
from tests.evaluation.panel_cases import made


def blobs(seed: int, size: int = 96) -> np.ndarray:
    """A mask of a few smooth parts, some at the border."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), 5)
    return noise > np.quantile(noise, 0.85)


@pytest.mark.parametrize("tolerance", [1, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_surface_dice_is_monais(seed, tolerance):
    truth, found = blobs(seed), np.roll(blobs(seed), (seed, 2), (0, 1)) | blobs(seed + 50)
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (found, truth)]
    expected = compute_surface_dice(*pair, class_thresholds=[tolerance], include_background=True).item()
    assert 0 < expected < 1
    assert surface_dice(truth, found, tolerance) == pytest.approx(expected, abs=1e-6)


def test_dice_and_iou_are_monais():
    empty = np.zeros((96, 96), bool)
    pairs = [(blobs(1), blobs(8)), (blobs(2), np.roll(blobs(2), 4)), (blobs(3), empty)]
    pairs += [(empty, blobs(4)), (empty, empty)]
    truth, found = (torch.from_numpy(np.array(side))[:, None].float() for side in zip(*pairs, strict=True))
    dice, iou = (monais(found, truth, ignore_empty=False)[:, 0].numpy() for monais in (compute_dice, compute_iou))
    table = made(5).assign(label=[1.0, 1, 1, 0, 0], **pd.DataFrame([compare_masks(*pair) for pair in pairs]))
    ours = compute_panel(table, 100)["held_out"]["all"]
    expected = {"kaggle_dice": dice.mean(), "positives_dice": dice[:3].mean(), "positives_iou": iou[:3].mean()}
    assert {name: ours[name]["value"] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert 0.1 < expected["positives_iou"] < expected["positives_dice"] < expected["kaggle_dice"] < 0.9


def test_the_tolerance_is_5_pixels_of_1024():
    truth, found = np.zeros((2, 512, 1024), bool)
    truth[100:200, 100:200] = found[105:205, 100:200] = True
    assert surface_dice(truth, found) == 1
    assert surface_dice(truth, np.roll(found, 1, 0)) < 1
    assert surface_dice(truth[:, ::2], found[:, ::2]) < 1  # 5 pixels of 512


def test_empty_masks():
    some, empty = blobs(1), np.zeros((96, 96))
    assert compare_masks(empty, empty)["nsd"] == 1
    assert compare_masks(some, empty)["nsd"] == compare_masks(empty, some)["nsd"] == 0
    assert compare_masks(some, some)["nsd"] == 1


@pytest.mark.parametrize("seed", range(6))
def test_lesions_are_counted_as_scipy_labels_them(seed):
    truth, found = blobs(seed), blobs(seed + 7)
    corners = np.ones((3, 3))  # 8-connected
    (label, lesions), (label_found, drawn) = (ndimage.label(mask, corners) for mask in (truth, found))
    hit = len(set(label[found]) - {0})
    extra = drawn - len(set(label_found[truth]) - {0})
    row = compare_masks(truth, found)
    assert (row["lesions"], row["hit"], row["extra"]) == (lesions, hit, extra)
    assert (row["truth"], row["found"], row["overlap"]) == (truth.sum(), found.sum(), (truth & found).sum())


def test_parts_that_meet_at_a_corner_are_one_lesion():
    truth = np.eye(4)
    assert compare_masks(truth, truth)["lesions"] == 1
    assert compare_masks(truth, np.fliplr(truth)) | {"nsd": 0} == {
        "truth": 4, "found": 4, "overlap": 0, "lesions": 1, "hit": 0, "extra": 1, "nsd": 0,
    }  # fmt: skip


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        compare_masks(np.zeros((3, 3)), np.zeros((3, 4)))
