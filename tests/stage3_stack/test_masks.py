"""Mean maps, and final masks in the originals' pixels."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from cxr import metrics, rle, tables
from cxr.errors import UsageError
from cxr.geometry import Letterbox, resize
from cxr.prepared import Prepared
from pipeline.known import Known, decided
from stage3_stack import cases
from stage3_stack.maps import read_maps
from stage3_stack.masks import Images, codes, count, final_mask, on_canvas
from stage3_stack.thresholds import PLAIN, Cut
from tests.stage3_stack.toy_world import SIZE, World


def opened(world: World) -> tuple[Prepared, Images]:
    """The held-out images of fold 0, and a few of the test, with their maps."""
    prepared = Prepared(world.paths.prepared, world.paths.folds)
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
    counts = count(images, prepared, [], prepared.manifest["rle"])
    drawn = np.arange(len(images.ids)) % 3 > 0
    bottoms = np.where(np.arange(len(images.ids)) % 2, 0.3, 0.6)
    cuts = [Cut(bottom, 0, 1024) for bottom in bottoms]
    found = cases.masks(images, drawn, cuts, prepared, prepared.manifest["rle"].to_dict())
    for k, image_id in enumerate(images.ids):
        mean, truth = images.maps[k].mean(image_id), made.truth[image_id]
        whole = prepared.letterbox(image_id).restore(mean)
        assert counts.above[k, 100] == (whole > 100).sum()
        assert counts.overlap[k, 100] == ((whole > 100) & truth).sum()
        assert (counts.truth[k], counts.pixels[k]) == (truth.sum(), truth.size)
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
        box, mean = prepared.letterbox(image_id), images.maps[k].mean(image_id)
        found = Known(image_id, "train", 0, prepared.image(image_id), box, stacked=1.0)
        found.maps = {member: stored(made, member, image_id) for member in "uv"}
        decision = PLAIN._replace(bottom=0.4, least_component=0.02 * SIZE**2, reference_size=SIZE)
        expected = box.apply(final_mask(mean, box, decision.cut) * np.uint8(255)) > 127
        np.testing.assert_array_equal(decided(found, decision._asdict()), expected)
        area = (box.restore(mean) > 127).sum() * SIZE**2 / (box.height * box.width)
        assert not decided(found, decision._replace(least_area=area + 0.01)._asdict()).any()
        assert decided(found, decision._replace(least_area=area)._asdict()).any() == expected.any()


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
    cut, changed = Cut(0.4, 0.03 * SIZE**2, SIZE), 0  # 3 % of an image
    stays = count(images, prepared, [cut], prepared.manifest["rle"]).kept[cut]
    for k, image_id in enumerate(images.ids):
        mean, box = images.maps[k].mean(image_id), prepared.letterbox(image_id)
        numbers, number = ndimage.label(mean > 102, np.ones((3, 3)))
        frame = SIZE**2 * min(box.height, box.width) / max(box.height, box.width)  # the image's part of the canvas
        large = [n for n in range(1, number + 1) if (numbers == n).sum() >= 0.03 * frame]
        full = final_mask(mean, box, cut)
        assert stays[k].tolist() == [full.sum(), (full & made.truth[image_id]).sum()]
        assert full.any() == bool(large)
        assert not full[~(box.restore(mean) > 102)].any()
        changed += len(large) < number
    assert changed > 5


def test_the_label_heads_mean_is_over_the_members_that_have_one(made: World):
    prepared, images = opened(made)
    index = pd.read_parquet(made.paths.unit(2, "v", 0) / "index.parquet").set_index("image_id")
    counts = count(images, prepared, [])
    assert not counts.truth.any()
    np.testing.assert_array_equal(counts.head, index.loc[images.ids, "prob"])
    alone = read_maps(made.paths, ["u"], 0, images.ids)
    assert np.isnan(alone.head(images.ids[0]))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 40), (30, 90)])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_a_map_of_any_size_lands_where_the_image_lies(height, width, size):
    """Members' maps are often half as large as the prepared pixels, and radiographs are not always square."""
    box, truth = Letterbox(height, width, 64), np.zeros((height, width), np.uint8)
    truth[height // 4 : height // 2, width // 4 : width // 2] = 255
    found = final_mask(resize(box.apply(truth), size, size), box, Cut(0.5, 0, 1024))  # as stage 2's maps are made
    assert metrics.dice(truth, found) > 0.9


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
