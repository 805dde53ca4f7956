"""The stage from labels to boxes: who is held out, what is written, and what the user's edits do."""

import csv
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from cxr import runs, step, tables
from cxr.config import validate_settings
from cxr.datasets import box_files, box_table
from cxr.datasets.image_ids import parse_image_id
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError, UsageError
from cxr.imaging.geometry import Box
from stage0_bbox import box_edits, config, detect, predict, scores, train
from stage0_bbox.choose_boxes import ChestBoxChooser, write_box_tables
from stage0_bbox.data import assign_folds
from stage0_bbox.network import Detector, sum_losses


def detector_of(**settings) -> config.DetectorConfig:
    """The tests' detector, trained for one step."""
    smoke = config.read_detector_settings("smoke")
    brief = {"epoch_images": 4, "training": smoke.training.model_copy(update={"epochs": 1})}
    return smoke.model_copy(update=brief | settings)


def run(house, **settings) -> config.BoxStep:
    """What the command does."""
    detector = detector_of(**settings)
    stage = train.Stage(house.recipe, house.paths, detector)
    unit = config.build_box_step(house.recipe, house.paths, detector)
    step.run_step(unit, lambda _identity, metrics: train.run_stage_steps(stage, unit, metrics))
    return unit


def change(path, key: str, **values) -> None:
    """Edit one row of the boxes, as a user would."""
    with open(path, newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        row |= values if row["Filename"] == f"{key}.png" else {}
    with open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, list(tables.BOXES))
        writer.writeheader()
        writer.writerows(rows)


def table(house) -> pd.DataFrame:
    found = box_table.read_boxes_table(house.paths.editable_boxes_csv)
    return found.set_index(found["Filename"].map(parse_image_id))


def test_no_patient_is_in_two_parts(house):
    prepared = Prepared(house.paths.prepared_folder, house.paths.folds_csv)
    for count in (2, 3):
        part = assign_folds(prepared, list(house.hand), count)
        assert part.keys() == house.hand.keys()
        assert set(part.values()) == set(range(count))
        patients = pd.DataFrame({"part": pd.Series(part), "patient": prepared.manifest["patient"]}).dropna()
        assert (patients.groupby("patient")["part"].nunique() == 1).all()
    assert part["u0"] == part["1.0"]  # unlabelled, hence without a fold, but of the same patient


def test_near_duplicates_without_a_patient_stay_together(house):
    manifest = house.manifest.assign(patient=None)
    tables.write_table(manifest, house.paths.prepared_folder / "manifest.parquet", tables.MANIFEST)
    prepared = Prepared(house.paths.prepared_folder, house.paths.folds_csv)
    part = pd.Series(assign_folds(prepared, [key for key in house.truth if key.startswith("1.")], 2))
    cells = prepared.folds["fold"] * 10 + prepared.folds["subfold"]
    assert (part.groupby(cells).nunique() == 1).all()


def test_too_few_groups_are_refused_with_the_counts(house):
    prepared = Prepared(house.paths.prepared_folder, house.paths.folds_csv)
    with pytest.raises(DataError, match="2 boxed training images in 1 groups"):
        assign_folds(prepared, ["1.0", "1.1"], 2)


def test_each_model_learns_without_its_part_and_predicts_it(house, monkeypatch, tmp_path):
    detector = config.read_detector_settings("smoke")
    stage = train.Stage(house.recipe, house.paths, detector)
    for fold in stage.folds:
        assert stage.build_box_data(fold).boxes.keys() == {
            key for key, part in stage.fold_by_image.items() if part != fold
        }
    asked = []

    def detections(model, data, image_ids, on):
        asked.append(image_ids)
        return [(key, np.array([8.0, 8, 56, 56]) + len(asked), 0.25 * len(asked)) for key in image_ids]

    monkeypatch.setattr(detect, "_load_detector_weights", lambda model, path: None)
    monkeypatch.setattr(detect, "_detect_images", detections)
    detect.write_detections([tmp_path] * 2, stage.build_box_data(), stage.fold_by_image, tmp_path / "detections.csv")
    for fold, ids in enumerate(asked):
        assert not [key for key in ids if stage.fold_by_image.get(key, fold) != fold]
        assert {"ID_0", "u1"} <= set(ids)
    found = detect.read_detections(tmp_path / "detections.csv")
    assert set(found.index) == set(house.manifest["image_id"])
    # ID_0 is 200 x 160 on a canvas of 64: 160 columns on 51, after 6 of border; both models' boxes by score.
    expected = ((8 + 5 / 3 - 6) * 160 / 51, (8 + 5 / 3) * 200 / 64)
    assert house.manifest.set_index("image_id").loc["ID_0", "width"] == 160
    np.testing.assert_allclose(found.loc["ID_0", ["xmin", "ymin"]].to_numpy(float), expected, rtol=1e-6)
    assert found.loc["ID_0", "score"] == pytest.approx(0.375)


def test_detections_are_float32_also_where_training_is_not(house, monkeypatch):
    monkeypatch.setattr("cxr.torchkit.device.amp_dtype", lambda on: torch.bfloat16)
    torch.manual_seed(0)
    data = train.Stage(house.recipe, house.paths, config.read_detector_settings("smoke")).build_box_data()
    model, ids = Detector(data.detector), ["1.0", "1.1", "ID_0"]
    found = list(detect._detect_images(model, data, ids, torch.device("cpu")))
    with torch.inference_mode():
        boxes, scores = model(
            torch.from_numpy(np.stack([data.load_inference_image(image_id)["image"] for image_id in ids]))
        )
    np.testing.assert_allclose([score for _, _, score in found], scores, rtol=0, atol=1e-6)
    np.testing.assert_allclose([box for _, box, _ in found], boxes, rtol=1e-5)


def chooser(house, **settings) -> ChestBoxChooser:
    prepared = Prepared(house.paths.prepared_folder, house.paths.folds_csv)
    part = assign_folds(prepared, list(house.hand), 2)
    return ChestBoxChooser(
        prepared, config.read_detector_settings("smoke").model_copy(update=settings), house.hand, part
    )


def found(house, score: float, away: float = 0.0) -> pd.DataFrame:
    """Detections: the true boxes, moved by `away` pixels."""
    rows = [(key, *(edge + away for edge in box), score) for key, box in house.truth.items()]
    return pd.DataFrame(rows, columns=list(detect.DETECTIONS)).set_index("image_id")


def test_an_unsure_detection_falls_back_to_the_mean_box(house):
    choose = chooser(house, score_threshold=0.5, margin=0.0)
    unsure, sure = choose.choose_boxes(found(house, 0.49)), choose.choose_boxes(found(house, 0.5))
    assert {one.source for one in unsure.values()} == {"fallback"}
    assert {one.source for one in sure.values()} == {"model"}
    mean = np.mean([np.array(house.hand[key]) / choose.frame_extent(key) for key in house.hand], axis=0)
    np.testing.assert_allclose(unsure["ID_0"].box, mean * choose.frame_extent("ID_0"))
    others = [key for key in house.hand if choose.fold_by_image[key] != choose.fold_by_image["1.0"]]
    mean = np.mean([np.array(house.hand[key]) / choose.frame_extent(key) for key in others], axis=0)
    np.testing.assert_allclose(unsure["1.0"].box, mean * choose.frame_extent("1.0"))


def test_nothing_found_is_a_fallback_whatever_the_threshold(house):
    assert {one.source for one in chooser(house, score_threshold=0.0).choose_boxes(found(house, 0.0)).values()} == {
        "fallback"
    }


def test_a_box_is_clipped_grown_and_clipped_again(house):
    choose = chooser(house, margin=0.1)
    row = choose.choose_boxes(
        pd.DataFrame([("1.0", -10.0, 10.0, 100.0, 60.0, 0.9)], columns=list(detect.DETECTIONS)).set_index("image_id")
    )
    written = choose.build_table(row, {}, house.paths.editable_boxes_csv).iloc[0]
    assert written["Filename"] == "1.0.png"
    assert written[["xmin", "xmax", "ymin", "ymax"]].tolist() == [0, 110, 5, 65]  # from (0, 10, 100, 60) in 128 x 128


def test_metrics_against_figures_counted_by_hand(house):
    choose = chooser(house, margin=0.0)
    metrics = scores.measure_boxes(choose, choose.choose_boxes(found(house, 0.9)), house.hand)
    assert metrics["hand_boxes"] == len(house.hand)
    assert (metrics["iou_mean"], metrics["iou_good"], metrics["fallbacks"], metrics["missed"]) == (1, 1, 0, 0)
    moved = scores.measure_boxes(choose, choose.choose_boxes(found(house, 0.9, away=10)), house.hand)
    inside = total = 0
    for key, row in house.manifest.set_index("image_id").iterrows():
        if row["mask_area"]:
            box = house.truth[key]
            total += row["mask_area"]
            inside += (int(box.width / 2) - 10) * (int(box.height / 4) - 10)
    assert moved["missed"] == pytest.approx(1 - inside / total, abs=1e-5)
    assert scores.measure_boxes(choose, choose.choose_boxes(found(house, 0.9)), {})["iou_mean"] is None


def test_from_labels_to_boxes_and_up_to_date(house, capsys):
    unit = run(house)
    assert unit.is_up_to_date
    rows = table(house)
    assert set(rows.index) == set(house.manifest["image_id"])
    assert set(rows["source"]) <= {"model", "fallback"}
    metrics = runs.read_metrics(unit.folder)
    assert metrics["hand_boxes"] == len(house.hand)
    assert cv2.imread(str(house.paths.editable_boxes_csv.with_suffix(".jpg"))) is not None
    assert f"IoU with {len(house.hand)} held-out hand boxes" in capsys.readouterr().out
    run(house)
    assert capsys.readouterr().out == f"{unit.name}: up to date\n"


def test_an_edited_box_is_kept_and_the_later_stages_see_it(house, capsys):
    unit, path = run(house), house.paths.editable_boxes_csv
    before, later = table(house), runs.digest_file(house.paths.boxes_csv)
    change(path, "1.4", xmin="12.5", xmax="99")
    assert box_table.read_run_boxes(house.paths)["1.4"] == box_table.read_boxes(house.paths.boxes_csv)["1.4"]
    assert "was edited since stage 0 wrote it" in capsys.readouterr().out
    assert not config.build_box_step(house.recipe, house.paths, detector_of()).is_up_to_date
    capsys.readouterr()
    unit = run(house)
    assert unit.is_up_to_date
    assert runs.digest_file(house.paths.boxes_csv) != later  # an input of every stage that crops
    rows = table(house)
    assert rows.loc["1.4", ["xmin", "xmax", "source"]].tolist() == [12.5, 99, "edited"]
    pd.testing.assert_frame_equal(rows.drop("1.4"), before.drop("1.4"))
    assert "model 1 of 2: up to date" in capsys.readouterr().out
    run(house, margin=0.1)
    assert table(house).loc["1.4", ["xmin", "xmax", "source"]].tolist() == [12.5, 99, "edited"]


def of_another_recipe(house):
    """The same data, prepared and folded alike, for a run of another name."""
    paths = type(house.paths)(house.paths.data_folder, "other", 64)
    shutil.copytree(house.paths.folds_csv.parent, paths.folds_csv.parent)
    return type(house)(**vars(house) | {"paths": paths})


def test_another_recipes_boxes_are_no_edits_and_leave_ours(house):
    unit = run(house)
    first, ours = table(house), house.paths.boxes_csv.read_bytes()
    other = of_another_recipe(house)
    run(other, margin=0.2)
    assert not table(house).equals(first)  # to be looked at are those that were written last
    assert not box_edits.find_edits(house.paths.editable_boxes_csv)
    assert unit.is_up_to_date
    assert house.paths.boxes_csv.read_bytes() == ours


def test_an_edit_is_every_recipes(house):
    run(house)
    other = of_another_recipe(house)
    change(house.paths.editable_boxes_csv, "1.4", xmin="12.5", xmax="99")
    run(other, margin=0.2)
    assert not config.build_box_step(house.recipe, house.paths, detector_of()).is_up_to_date
    run(house)
    for paths in (house.paths, other.paths):
        assert box_table.read_boxes(paths.boxes_csv)["1.4"][::2] == (12.5, 99)


def test_missing_rows_are_refilled(house):
    unit, path = run(house), house.paths.editable_boxes_csv
    whole = table(house)
    for damaged in ("", "".join(path.read_text().splitlines(keepends=True)[:5])):
        path.write_text(damaged)
        assert not unit.is_up_to_date
        run(house)
        pd.testing.assert_frame_equal(table(house), whole)
    path.unlink()
    assert not unit.is_up_to_date
    run(house)
    pd.testing.assert_frame_equal(table(house), whole)


def test_a_table_or_picture_that_is_cut_anywhere_is_written_again(house):
    unit, path = run(house), house.paths.editable_boxes_csv
    picture = path.with_suffix(".jpg")
    whole = path.read_bytes(), picture.read_bytes()
    for count in (0, 40, len(whole[0]) // 2, len(whole[0]) - 1):  # in the header, in the middle of a number
        path.write_bytes(whole[0][:count])
        assert run(house).is_up_to_date
        assert path.read_bytes() == whole[0]
    for damage in (lambda: picture.write_bytes(whole[1][:-100]), picture.unlink):
        damage()
        assert not unit.is_up_to_date
        run(house)
        assert picture.read_bytes() == whole[1]
    assert unit.is_up_to_date


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"xmin": "90", "xmax": "20"}, r"row 6 \(1\.4\.png\).*xmin < xmax"),
        ({"ymin": "1,024"}, r"row 6 \(1\.4\.png\).*not a number \(1,024 may mean 1024 or 1\.024"),
        ({"ymax": ""}, r"row 6 \(1\.4\.png\).*not a number"),
        ({"xmin": "1000", "xmax": "1001"}, r"row 6 \(1\.4\).*outside its image"),
        ({"xmin": "1", "xmax": "1001"}, r"row 6 \(1\.4\).*outside its image"),
        ({"Filename": "1.5.png"}, r"row 7.*1\.5 stands there twice \(first in row 6\)"),
    ],
)
def test_a_row_that_the_user_broke_is_named(house, values, said):
    choose, path = chooser(house), house.paths.editable_boxes_csv
    sure = choose.choose_boxes(found(house, 0.9))
    write_box_tables(choose.build_table(sure, {}, path), path, house.paths.boxes_csv)
    change(path, "1.4", **values)
    with pytest.raises(DataError, match=said) as caught:
        choose.build_table(sure, box_edits.find_edits(path), path)
    assert "xray.csv" in str(caught.value)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
def test_boxes_that_a_spreadsheet_saved_are_the_same(house, encoding):
    choose, path = chooser(house), house.paths.editable_boxes_csv
    write_box_tables(choose.build_table(choose.choose_boxes(found(house, 0.9)), {}, path), path, house.paths.boxes_csv)
    before = table(house)
    text = re.sub(r"(?<=;)(\d+)\.(\d+)(?=[;\n])", r"\1,\2", path.read_text().replace(",", ";"))
    path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    pd.testing.assert_frame_equal(table(house), before)
    assert box_edits.find_edits(path) == {}
    path.write_bytes(re.sub(r"1\.4\.png;[\d,]+;", "1.4.png;12,5;", text).encode(encoding))
    assert {key: row.box.xmin for key, row in box_edits.find_edits(path).items()} == {"1.4": 12.5}


@pytest.mark.parametrize("edges", ["90,20,1,9", "nan,20,1,9", "1,inf,1,9", ",20,1,9", "1,20,9,9"])
def test_what_is_no_box_is_read_by_nobody(tmp_path, edges):
    (tmp_path / "boxes.csv").write_text(f"{','.join(tables.BOXES)}\na.png,{edges},.9,model\n")
    with pytest.raises((DataError, UsageError), match=r"boxes\.csv"):
        box_table.read_boxes(tmp_path / "boxes.csv")


def test_an_unmarked_edit_outlives_a_kill_before_the_table_is_renamed(house):
    run(house)
    path = house.paths.editable_boxes_csv
    change(path, "1.4", xmin="12.5")
    shutil.copyfile(path, box_edits.pending_copy(path))
    change(box_edits.pending_copy(path), "1.4", source="edited")  # what the run was writing when it was killed
    assert list(box_edits.find_edits(path)) == ["1.4"]


def test_a_cut_copy_of_what_was_written_is_written_again(house):
    unit, copy = run(house), box_table.written_copy_path(house.paths.editable_boxes_csv)
    whole = copy.read_bytes()
    for content in (b"", whole[: len(whole) // 2]):
        copy.write_bytes(content)
        assert not unit.is_up_to_date
        run(house)
        assert copy.read_bytes() == whole


def test_the_last_row_can_be_given_back_in_an_editor_without_a_last_line_end(house):
    run(house)
    path = house.paths.editable_boxes_csv
    last = path.read_text().splitlines()[-1].partition(".png")[0]
    change(path, last, xmin="12.5")
    run(house)
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    run(house)
    assert table(house).loc[last, "source"] != "edited"


def test_a_run_cut_off_while_writing_makes_no_edits(house, monkeypatch):
    run(house)
    monkeypatch.setattr("stage0_bbox.choose_boxes.os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(house, margin=0.1)
    monkeypatch.undo()
    assert not box_edits.find_edits(house.paths.editable_boxes_csv)


def test_an_interrupted_training_ends_as_an_unbroken_one(house, tmp_path, monkeypatch):
    detector = config.read_detector_settings("smoke")
    stage = train.Stage(house.recipe, house.paths, detector)
    unit = stage.fit_step(0)
    train.fit_detector(stage, unit, 0, "x")
    unbroken = (unit.folder / "weights.safetensors").read_bytes()
    (unit.folder / "weights.safetensors").unlink()
    counted = []

    def stops(*arguments):
        counted.append(1)
        if len(counted) == 4:  # in the second of two epochs
            raise KeyboardInterrupt
        return sum_losses(*arguments)

    monkeypatch.setattr("stage0_bbox.network.sum_losses", stops)
    with pytest.raises(KeyboardInterrupt):
        train.fit_detector(stage, unit, 0, "x")
    assert (unit.folder / "checkpoint.pt").is_file()
    monkeypatch.undo()
    monkeypatch.setenv("CXR_WORKERS", "0")
    train.fit_detector(stage, unit, 0, "x")
    assert (unit.folder / "weights.safetensors").read_bytes() == unbroken
    assert not (unit.folder / "checkpoint.pt").exists()


def test_predict_needs_weights_and_then_writes_the_boxes(house, monkeypatch, home):
    stage = train.Stage(house.recipe, house.paths, detector_of())
    monkeypatch.setattr(predict, "open_stage", lambda prog: stage)
    with pytest.raises(UsageError, match=r"weights\.safetensors is missing.*stage0_bbox\.train"):
        predict.main()
    unit = run(house)
    whole = table(house)
    house.paths.editable_boxes_csv.unlink()
    predict.main()
    pd.testing.assert_frame_equal(table(house), whole)
    assert unit.is_up_to_date


def test_a_new_label_trains_anew_and_a_margin_does_not(house, capsys):
    run(house)
    capsys.readouterr()
    run(house, margin=0.07)
    assert "model 1 of 2: up to date" in capsys.readouterr().out
    label_file = house.paths.data_folder / "boundingbox_csv" / "original_boundingbox.csv"
    house.write_via(label_file, house.hand | {"1.1": Box(20, 20, 90, 90)})
    assert not config.build_fit_step(house.recipe, house.paths, detector_of(), 0).is_up_to_date


def test_config_imports_no_framework():
    code = "import sys, stage0_bbox.config; assert not {'torch', 'torchvision', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_moving_augmentations_belong_to_moves():
    values = config.read_detector_settings("smoke").model_dump() | {"augment": {"hflip": 0.5}}
    with pytest.raises(UsageError, match="leave the box behind"):
        validate_settings(values, config.DetectorConfig, "a.yaml")


def test_on_real_radiographs_labels_are_found(real):
    paths = type("P", (), {"data_folder": real, "editable_boxes_csv": real / "none.csv"})()
    files = config.find_label_files(paths, config.read_detector_settings("fasterrcnn_small"))
    assert len(files) == 2
    hand = list(box_files.read_annotations(files[0]))
    assert (len(hand), sum(row.box is None for row in hand)) == (990, 1)
    assert len(list(box_files.read_annotations(files[1]))) == 11922
