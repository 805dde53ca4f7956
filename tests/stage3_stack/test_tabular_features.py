"""What LightGBM sees beside the features is of the right image, and in shares of its frame."""

import numpy as np
import pandas as pd
import pytest

from cxr.errors import UsageError
from stage3_stack.config import LightgbmConfig
from stage3_stack.postprocessing.components import count_components
from stage3_stack.postprocessing.thresholds import LevelHistograms, histogram_above_levels
from stage3_stack.stacking import tabular_features
from stage3_stack.stacking.baselines import fit_lightgbm, lightgbm_logit
from stage3_stack.stacking.dense_head import HeadInput
from tests.stage3_stack.toy_world import World, open_stage, small_config


def test_statistics_are_those_of_the_pixels():
    draw = np.random.default_rng(0)
    maps = draw.integers(0, 256, (3, 40, 40)).astype(np.uint8)
    maps[1] //= 2
    above = np.array([histogram_above_levels(found)[0] for found in maps])
    part_numbers = np.array(list(map(count_components, maps)))
    counts = LevelHistograms(
        above, above * 0, np.zeros(3), np.array([0.2, np.nan, 1]), part_numbers, {}, np.full(3, 1600)
    )
    found = tabular_features.mask_statistics(["a", "b", "c"], counts)
    for name, pixels in zip("abc", maps / 255, strict=True):
        assert found.at[name, "highest"] == pytest.approx(pixels.max())
        assert found.at[name, "top"] == pytest.approx(np.sort(pixels.ravel())[-16:].mean())
        assert found.at[name, "above_0.3"] == pytest.approx((pixels > 0.3).mean())
        assert found.at[name, "above_0.7"] == pytest.approx((pixels > 0.7).mean())
    assert found["parts"].tolist() == part_numbers.tolist()
    np.testing.assert_array_equal(found["head"], [0.2, np.nan, 1])


def test_boxes_are_shares_of_their_own_frame_joined_by_image():
    manifest = pd.DataFrame({"height": [100, 50, 80], "width": [200, 100, 80]}, index=["a", "b", "c"])
    names = ["xmin", "xmax", "ymin", "ymax", "source"]
    table = pd.DataFrame([[10, 60, 5, 30, "fallback"], [50, 150, 20, 70, "model"]], columns=names)
    found = tabular_features.box_geometry(table.assign(Filename=["b.png", "a.jpg"]), manifest)
    assert found.loc["a"].tolist() == pytest.approx([0.25, 0.2, 0.5, 0.5, 0.25, 0])
    assert found.loc["b"].tolist() == pytest.approx([0.1, 0.1, 0.5, 0.5, 0.25, 1])
    assert found.loc["c"].isna().all()


def test_a_group_without_its_file_is_left_out_and_nothing_at_all_is_refused(made: World):
    some, gone = (
        open_stage(made, settings=small_config(lightgbm=LightgbmConfig(columns=columns)))
        for columns in (["pca", "box", "masks"], ["box", "masks"])
    )
    assert set(tabular_features.gather_columns(some, [])) == {"header"}
    with pytest.raises(UsageError, match=r"lightgbm\.columns: of box, masks nothing is there"):
        tabular_features.gather_columns(gone, [])


@pytest.mark.parametrize(("asked", "sees"), [(["pca", "box"], True), (["pca", "header"], False)])
def test_trees_see_the_columns_that_are_asked_for(asked, sees):
    draw = np.random.default_rng(0)
    labels = np.arange(80) % 2.0
    noise = draw.normal(size=(80, 2))
    part = HeadInput(noise, noise, labels, {"box": labels[:, None] + 0 * noise, "header": noise})
    state = fit_lightgbm(part, LightgbmConfig(columns=asked, trees=20, min_rows_per_leaf=5), 0)
    gap = lightgbm_logit(state, part)
    assert (gap[labels == 1].min() > gap[labels == 0].max()) == sees


def test_boxes_are_an_input_once_they_are_there(made: World, tmp_path, monkeypatch):
    from stage3_stack.config import build_stack_step

    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    paths, config = made.recipe.build_paths(tmp_path / "data"), small_config()
    assert paths.boxes_csv not in build_stack_step(made.recipe, paths, config).inputs
    paths.boxes_csv.parent.mkdir(parents=True)
    paths.boxes_csv.touch()
    assert paths.boxes_csv in build_stack_step(made.recipe, paths, config).inputs
