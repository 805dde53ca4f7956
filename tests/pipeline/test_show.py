"""The picture of one image: with nothing but prepared data, with everything, and for ids that are not clear."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import recipe as recipes
from cxr import tables
from cxr.errors import UsageError
from cxr.files import write_json
from cxr.imaging import rle
from cxr.paths import ROOT, Paths
from pipeline import show
from pipeline.pictures import image_record
from pipeline.run_files import RunFiles

SIZE = 64
IDS = ["1.2.10", "1.2.11", "1.2.12", "ID_000000001"]


@pytest.fixture
def recipe() -> recipes.Recipe:
    return recipes.read_recipe(ROOT / "recipes" / "smoke.yaml").model_copy(update={"prepared_size": SIZE})


@pytest.fixture
def paths(recipe, tmp_path) -> Paths:
    """Prepared data of four images; the first has a pneumothorax, the last is a test image with its truth."""
    paths = recipe.build_paths(tmp_path / "data")
    paths.data_folder.mkdir()
    mask = np.zeros((SIZE, SIZE), bool)
    mask[8:24, 8:24] = True
    code = rle.encode_mask(mask)
    manifest = pd.DataFrame({
        "image_id": IDS, "split": ["train", "train", "unlabelled", "test"], "path": IDS, "patient": None,
        "age": np.nan, "sex": None, "view": None, "height": SIZE, "width": SIZE, "label": [1.0, 0.0, np.nan, np.nan],
        "mask_area": [256, 0, 0, 0], "rle": [code, "-1", None, None],
    })  # fmt: skip
    index = pd.DataFrame({"image_id": IDS, "row": range(4), "scale": 1.0, "dx": 0, "dy": 0, "mask_row": -1})
    index.loc[0, "mask_row"] = 0
    tables.write_table(manifest, paths.prepared_folder / "manifest.parquet", tables.MANIFEST)
    tables.write_table(index, paths.prepared_folder / "index.parquet", tables.INDEX)
    folds = pd.DataFrame({"image_id": IDS[:2], "fold": [0, 1], "subfold": 0, "val": False})
    tables.write_table(folds, paths.folds_csv, tables.FOLDS)
    np.save(paths.prepared_folder / "pixels.npy", np.full((4, SIZE, SIZE), 90, np.uint8))
    np.save(paths.prepared_folder / "masks.npy", np.packbits(mask[None], axis=-1))
    (paths.data_folder / "test-truth.csv").write_text(f"ImageId, EncodedPixels\n{IDS[3]}, {code}\n")
    return paths


def write_stage_outputs(recipe, paths) -> None:
    """Write what the stages would write."""
    prob_map = np.zeros((1, 32, 32), np.uint8)
    prob_map[0, 4:12, 4:12] = 200
    for member in recipe.stage2:
        for folder, image_id in (
            (paths.fold_folder(2, member, 0), IDS[0]),
            (paths.run_folder / "stage2" / member / "test", IDS[3]),
        ):
            index = pd.DataFrame({"image_id": [image_id], "row": 0, "prob": np.nan})
            tables.write_table(index, folder / "index.parquet", tables.MAP_INDEX)
            np.save(folder / "maps.npy", prob_map)
    for member in recipe.stage1:
        rows = pd.DataFrame({"image_id": [IDS[0], IDS[3]], "split": ["train", "test"], "prob": [0.9, 0.2]})
        tables.write_table(rows, paths.fold_folder(1, member, 0) / "predictions.parquet", tables.PREDICTIONS)
    stacked = rows.assign(positive=[True, False])
    tables.write_table(stacked, paths.stage3_folder / "stacked.parquet", tables.STACKED)
    decision = {
        "top_score_threshold": 0.5, "min_area": 100, "bottom_score_threshold": 0.4, "probability_threshold": 0.5,
        "label_head_threshold": 0.0, "min_component_area": 0, "reference_size": 1024,
    }  # fmt: skip
    write_json(
        paths.stage3_folder / "decision.json", {"test": decision, "held_out": {"nested_by": "fold", "0": decision}}
    )
    submission = pd.DataFrame({"ImageId": [IDS[3]], "EncodedPixels": ["-1"]})
    tables.write_table(submission, paths.submission_csv, tables.SUBMISSION)
    box = pd.DataFrame([[f"{IDS[0]}.png", 4, 60, 6, 58, 0.9, "model"]], columns=list(tables.BOXES))
    tables.write_table(box, paths.boxes_csv, tables.BOXES)


@pytest.mark.parametrize("image_id", IDS)
def test_with_prepared_data_alone_the_rest_is_noted(recipe, paths, tmp_path, image_id):
    record = image_record.gather_image_record(image_id, RunFiles(recipe, paths))
    assert "box (stage 0)" in record.missing_outputs
    assert "final mask (stage 3)" in record.missing_outputs
    show.draw_image_record(image_id, RunFiles(recipe, paths), tmp_path / "out.png")
    assert min(Image.open(tmp_path / "out.png").size) > 300


def test_a_held_out_image_with_everything(recipe, paths, tmp_path):
    write_stage_outputs(recipe, paths)
    record = image_record.gather_image_record(IDS[0], RunFiles(recipe, paths))
    assert (record.fold, record.stacked_prob, record.probability_threshold) == (0, 0.9, 0.5)
    assert tuple(record.box) == (4, 6, 60, 58)
    assert list(record.prob_maps) == recipe.stage2
    overlap = (record.final_mask & record.truth_mask).sum() / (record.final_mask | record.truth_mask).sum()
    assert overlap > 0.8
    show.draw_image_record(IDS[0], RunFiles(recipe, paths), tmp_path / "out.png")


def test_the_thresholds_empty_the_mask(recipe, paths):
    write_stage_outputs(recipe, paths)
    record = image_record.gather_image_record(IDS[0], RunFiles(recipe, paths))
    decision = {
        "top_score_threshold": 0.5, "min_area": 100, "bottom_score_threshold": 0.4, "probability_threshold": 0.5,
        "label_head_threshold": 0.7, "min_component_area": 0, "reference_size": 32,
    }  # fmt: skip
    assert not image_record.postprocess_mask(record, decision).any()  # 64 pixels of 32 x 32 are fewer than 100
    decision["min_area"] = 60
    assert image_record.postprocess_mask(record, decision).any()
    record.label_head_probs = [0.6]
    assert not image_record.postprocess_mask(record, decision).any()  # the label head says no
    record.label_head_probs = [0.8]
    assert not image_record.postprocess_mask(record, decision | {"min_component_area": 65}).any()
    record.stacked_prob = 0.4
    assert not image_record.postprocess_mask(record, decision).any()


def test_the_mask_stacks_map_decides_where_there_is_one(recipe, paths, monkeypatch):
    write_stage_outputs(recipe, paths)
    monkeypatch.setattr(image_record, "read_stack_settings", lambda _: SimpleNamespace(masks="stacker"))
    index = pd.DataFrame({"image_id": [IDS[0]], "row": 0, "prob": np.nan})
    tables.write_table(index, paths.stage3_folder / "maps" / "index.parquet", tables.MAP_INDEX)
    np.save(paths.stage3_folder / "maps" / "maps.npy", np.zeros((1, 32, 32), np.uint8))
    record = image_record.gather_image_record(IDS[0], RunFiles(recipe, paths))
    assert list(record.prob_maps) == [*recipe.stage2, image_record.MASK_STACK]
    assert not record.final_mask.any()


def test_a_test_image_shows_what_was_submitted_and_the_phantoms_truth(recipe, paths):
    write_stage_outputs(recipe, paths)
    record = image_record.gather_image_record(IDS[3], RunFiles(recipe, paths))
    assert record.truth_mask.sum() == 256
    assert not record.final_mask.any()
    assert record.probability_threshold == 0.5


def test_ids_that_are_short_or_wrong():
    assert show.find_image_id("12", IDS) == "1.2.12"
    with pytest.raises(UsageError, match=r"stands in 3 ids; nearest: 1\.2\.10, 1\.2\.11"):
        show.find_image_id("1.2", IDS)
    with pytest.raises(UsageError, match="nearest: ID_000000001"):
        show.find_image_id("ID_00000000l", IDS)
