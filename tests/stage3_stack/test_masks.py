"""Mean maps, and final masks in the originals' pixels."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from cxr import metrics, rle, tables
from cxr.errors import UsageError
from cxr.geometry import resize
from cxr.prepared import Prepared
from stage3_stack.maps import read_maps
from stage3_stack.masks import Images, canvas_truth, codes, count, final_mask, measure, on_canvas
from stage3_stack.thresholds import PLAIN, Cut
from tests.stage3_stack.toy_world import SIZE, World


def opened(world: World) -> tuple[Prepared, Images]:
    """The held-out images of fold 0, and a few of the test, with their maps."""
    prepared = Prepared(world.paths.prepared, 2)
    held = prepared.folds.index[prepared.folds["fold"] == 0].tolist()
    maps = read_maps(world.paths, ["u", "v"], 0, held)
    return prepared, Images(held, [maps] * len(held))


def stored(world: World, member: str, image_id: str) -> np.ndarray:
    folder = world.paths.unit(2, member, 0)
    row = pd.read_parquet(folder / "index.parquet").set_index("image_id").at[image_id, "row"]
    return np.load(folder / "maps.npy")[row]


def test_maps_of_different_sizes_are_averaged_at_the_largest(made: World):
    _, images = opened(made)
    for image_id in images.ids[:5]:
        pair = [resize(stored(made, member, image_id), SIZE, SIZE).astype(float) for member in "uv"]
        found = images.maps[0].mean(image_id)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, np.rint(np.mean(pair, axis=0)))


def test_counts_and_final_masks_are_those_of_each_image(made: World):
    prepared, images = opened(made)
    counts = count(images, lambda image_id: canvas_truth(prepared, image_id), [])
    drawn = np.arange(len(images.ids)) % 3 > 0
    bottoms = np.where(np.arange(len(images.ids)) % 2, 0.3, 0.6)
    cuts = [Cut(bottom, 0, 1024) for bottom in bottoms]
    areas = measure(images, drawn, cuts, prepared, prepared.manifest["rle"].to_dict())
    for k, image_id in enumerate(images.ids):
        mean, truth = images.maps[k].mean(image_id), made.truth[image_id]
        assert counts.above[k, 100] == (mean > 100).sum()
        assert counts.overlap[k, 100] == ((mean > 100) & (prepared.mask(image_id) > 0)).sum()
        full = (prepared.letterbox(image_id).restore(mean) > bottoms[k] * 255) & drawn[k]
        assert full.shape == truth.shape
        assert (areas.truth[k], areas.found[k]) == (truth.sum(), full.sum())
        assert areas.overlap[k] == (truth & full).sum()
    found = metrics.dice_of_areas(areas.truth, areas.found, areas.overlap)
    assert found[drawn & (areas.truth > 0)].mean() > 0.6  # the map lies where the lesion is, whatever the shape


def test_codes_are_the_masks_in_the_originals_pixels(made: World):
    prepared, images = opened(made)
    drawn = np.arange(len(images.ids)) % 2 == 0
    found = codes(images, drawn, PLAIN._replace(bottom=0.4), prepared)
    assert list(found) == images.ids
    for k, image_id in enumerate(images.ids[:8]):
        box = prepared.letterbox(image_id)
        full = (box.restore(images.maps[k].mean(image_id)) > 0.4 * 255) & drawn[k]
        np.testing.assert_array_equal(rle.decode(found[image_id], box.height, box.width), full)


def test_parts_that_a_cut_drops_are_not_in_the_final_mask(made: World):
    prepared, images = opened(made)
    cut, changed = Cut(0.4, 120, SIZE), 0
    stays = count(images, lambda image_id: canvas_truth(prepared, image_id), [cut]).kept[cut]
    for k, image_id in enumerate(images.ids):
        mean, box = images.maps[k].mean(image_id), prepared.letterbox(image_id)
        numbers, number = ndimage.label(mean > 102, np.ones((3, 3)))
        large = [n for n in range(1, number + 1) if (numbers == n).sum() >= 120]
        inside = np.isin(numbers, large) & (prepared.mask(image_id) > 0)
        assert stays[k].tolist() == [np.isin(numbers, large).sum(), inside.sum()]
        full = final_mask(mean, box, cut)
        assert full.any() == bool(large)
        assert not full[~(box.restore(mean) > 102)].any()
        changed += len(large) < number
    assert changed > 5


def test_the_label_heads_mean_is_over_the_members_that_have_one(made: World):
    _, images = opened(made)
    index = pd.read_parquet(made.paths.unit(2, "v", 0) / "index.parquet").set_index("image_id")
    counts = count(images, lambda _image_id: None, [])
    np.testing.assert_array_equal(counts.head, index.loc[images.ids, "prob"])
    alone = read_maps(made.paths, ["u"], 0, images.ids)
    assert np.isnan(alone.head(images.ids[0]))


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_a_mask_goes_to_a_canvas_of_any_size(size):
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 4:12] = 1
    assert on_canvas(mask, size).mean() == pytest.approx(mask.mean(), abs=0.01)
    assert set(np.unique(on_canvas(mask, size))) == {0, 1}


def test_a_missing_map_names_the_image_and_the_stage(finished: World):
    path = finished.paths.unit(2, "v", 0) / "index.parquet"
    table = pd.read_parquet(path)
    tables.write(table.iloc[1:], path, tables.MAP_INDEX)
    with pytest.raises(UsageError, match=rf"no map of {table['image_id'].iloc[0]} .*stage 2"):
        opened(finished)
    (finished.paths.unit(2, "u", 0) / "maps.npy").unlink()
    with pytest.raises(UsageError, match=r"maps.npy is missing; it is made by: stage 2"):
        opened(finished)
