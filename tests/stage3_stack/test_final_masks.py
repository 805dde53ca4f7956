"""Mean maps, and final masks in the originals' pixels."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError
from cxr.imaging import rle
from cxr.imaging.geometry import Letterbox, resize_image
from evaluation import metrics
from pipeline.pictures.image_record import ImageRecord, postprocess_mask
from stage3_stack.postprocessing.final_masks import final_mask, resize_mask
from stage3_stack.postprocessing.map_sets import MappedImages, compute_histograms
from stage3_stack.postprocessing.mean_maps import read_maps
from stage3_stack.postprocessing.submission import encode_final_masks
from stage3_stack.postprocessing.thresholds import PLAIN_PARAMS, MaskRule
from stage3_stack.results import cases
from tests.stage3_stack.toy_world import SIZE, World


def opened(world: World) -> tuple[Prepared, MappedImages]:
    """The held-out images of fold 0, and a few of the test, with their maps."""
    prepared = Prepared(world.paths.prepared_folder, world.paths.folds_csv)
    held = prepared.folds.index[prepared.folds["fold"] == 0].tolist()
    maps = read_maps(world.paths, ["u", "v"], 0, held)
    return prepared, MappedImages(held, [maps] * len(held))


def stored(world: World, member: str, image_id: str) -> np.ndarray:
    folder = world.paths.fold_folder(2, member, 0)
    row = pd.read_parquet(folder / "index.parquet").set_index("image_id").at[image_id, "row"]
    return np.load(folder / "maps.npy")[row]


def test_maps_of_different_sizes_are_averaged_at_the_largest(made: World):
    _, images = opened(made)
    for image_id in images.ids[:5]:
        pair = [resize_image(stored(made, member, image_id), SIZE, SIZE).astype(float) for member in "uv"]
        found = images.mean_maps[0].read_mean(image_id)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, np.rint(np.mean(pair, axis=0)))


def test_counts_and_final_masks_are_those_of_each_image(made: World):
    prepared, images = opened(made)
    counts = compute_histograms(images, prepared, [], prepared.manifest["rle"])
    drawn = np.arange(len(images.ids)) % 3 > 0
    bottoms = np.where(np.arange(len(images.ids)) % 2, 0.3, 0.6)
    cuts = [MaskRule(bottom, 0, 1024) for bottom in bottoms]
    found = cases.evaluate_masks(images, drawn, cuts, prepared, prepared.manifest["rle"].to_dict())
    for k, image_id in enumerate(images.ids):
        mean, truth = images.mean_maps[k].read_mean(image_id), made.truth[image_id]
        whole = prepared.get_letterbox(image_id).image_to_original(mean)
        assert counts.area_above[k, 100] == (whole > 100).sum()
        assert counts.overlap_above[k, 100] == ((whole > 100) & truth).sum()
        assert (counts.truth_area[k], counts.pixel_count[k]) == (truth.sum(), truth.size)
        full = (whole > bottoms[k] * 255) & drawn[k]
        assert full.shape == truth.shape
        areas = found.loc[image_id, ["truth", "found", "overlap"]]
        assert areas.tolist() == [truth.sum(), full.sum(), (truth & full).sum()]
    dices = metrics.dice_of_areas(found["truth"], found["found"], found["overlap"])
    assert dices[drawn & (found["truth"] > 0)].mean() > 0.6  # the map lies where the lesion is, whatever the shape


def test_a_picture_shows_the_mask_that_was_judged(made: World):
    """The pipeline reads files only, so it makes the mask by decision.json's words."""
    prepared, images = opened(made)
    for k, image_id in enumerate(images.ids[:12]):
        box, mean = prepared.get_letterbox(image_id), images.mean_maps[k].read_mean(image_id)
        found = ImageRecord(image_id, "train", 0, prepared.read_image(image_id), box, stacked_prob=1.0)
        found.prob_maps = {member: stored(made, member, image_id) for member in "uv"}
        decision = PLAIN_PARAMS._replace(
            bottom_score_threshold=0.4, min_component_area=0.02 * SIZE**2, reference_size=SIZE
        )
        expected = box.image_to_canvas(final_mask(mean, box, decision.mask_rule) * np.uint8(255)) > 127
        np.testing.assert_array_equal(postprocess_mask(found, decision._asdict()), expected)
        area = (box.image_to_original(mean) > 127).sum() * SIZE**2 / (box.height * box.width)
        assert not postprocess_mask(found, decision._replace(min_area=area + 0.01)._asdict()).any()
        assert postprocess_mask(found, decision._replace(min_area=area)._asdict()).any() == expected.any()


def test_codes_are_the_masks_in_the_originals_pixels(made: World):
    prepared, images = opened(made)
    drawn = np.arange(len(images.ids)) % 2 == 0
    found = encode_final_masks(images, drawn, PLAIN_PARAMS._replace(bottom_score_threshold=0.4), prepared)
    assert list(found) == images.ids
    for k, image_id in enumerate(images.ids[:8]):
        box = prepared.get_letterbox(image_id)
        full = (box.image_to_original(images.mean_maps[k].read_mean(image_id)) > 0.4 * 255) & drawn[k]
        np.testing.assert_array_equal(rle.decode_mask(found[image_id], box.height, box.width), full)


def test_parts_that_a_cut_drops_are_not_in_the_final_mask(made: World):
    prepared, images = opened(made)
    cut, changed = MaskRule(0.4, 0.03 * SIZE**2, SIZE), 0  # 3 % of an image
    stays = compute_histograms(images, prepared, [cut], prepared.manifest["rle"]).kept_areas[cut]
    for k, image_id in enumerate(images.ids):
        mean, box = images.mean_maps[k].read_mean(image_id), prepared.get_letterbox(image_id)
        numbers, number = ndimage.label(mean > 102, np.ones((3, 3)))
        frame = SIZE**2 * min(box.height, box.width) / max(box.height, box.width)  # the image's part of the canvas
        large = [n for n in range(1, number + 1) if (numbers == n).sum() >= 0.03 * frame]
        full = final_mask(mean, box, cut)
        assert stays[k].tolist() == [full.sum(), (full & made.truth[image_id]).sum()]
        assert full.any() == bool(large)
        assert not full[~(box.image_to_original(mean) > 102)].any()
        changed += len(large) < number
    assert changed > 5


def test_the_label_heads_mean_is_over_the_members_that_have_one(made: World):
    prepared, images = opened(made)
    index = pd.read_parquet(made.paths.fold_folder(2, "v", 0) / "index.parquet").set_index("image_id")
    counts = compute_histograms(images, prepared, [])
    assert not counts.truth_area.any()
    np.testing.assert_array_equal(counts.label_head_prob, index.loc[images.ids, "prob"])
    alone = read_maps(made.paths, ["u"], 0, images.ids)
    assert np.isnan(alone.mean_head_prob(images.ids[0]))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 40), (30, 90)])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_a_map_of_any_size_lands_where_the_image_lies(height, width, size):
    """Members' maps are often half as large as the prepared pixels, and radiographs are not always square."""
    box, truth = Letterbox(height, width, 64), np.zeros((height, width), np.uint8)
    truth[height // 4 : height // 2, width // 4 : width // 2] = 255
    found = final_mask(
        resize_image(box.image_to_canvas(truth), size, size), box, MaskRule(0.5, 0, 1024)
    )  # as stage 2's maps are made
    assert metrics.dice_of_masks(truth, found) > 0.9


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_a_mask_goes_to_a_canvas_of_any_size(size):
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 4:12] = 1
    assert resize_mask(mask, size).mean() == pytest.approx(mask.mean(), abs=0.01)
    assert set(np.unique(resize_mask(mask, size))) == {0, 1}


def test_a_missing_map_names_the_image_and_the_stage(finished: World):
    path = finished.paths.fold_folder(2, "v", 0) / "index.parquet"
    table = pd.read_parquet(path)
    tables.write_table(table.iloc[1:], path, tables.MAP_INDEX)
    with pytest.raises(UsageError, match=rf"no map of {table['image_id'].iloc[0]} .*stage 2"):
        opened(finished)
    (finished.paths.fold_folder(2, "u", 0) / "maps.npy").unlink()
    with pytest.raises(UsageError, match=r"maps.npy is missing; it is made by: stage 2"):
        opened(finished)
