"""The stage from labels to boxes: what is written, when it is up to date, and what a new training needs."""

import subprocess
import sys

import cv2
import pandas as pd
import pytest

from cxr import runs
from cxr.config import validate_settings
from cxr.datasets import box_files
from cxr.errors import UsageError
from cxr.imaging.geometry import Box
from stage0_bbox import config, predict, train
from stage0_bbox.network import sum_losses
from tests.stage0_bbox.stage_runs import build_settings, read_table, run_stage


def test_from_labels_to_boxes_and_up_to_date(house, capsys):
    unit = run_stage(house)
    assert unit.is_up_to_date
    rows = read_table(house)
    assert set(rows.index) == set(house.manifest["image_id"])
    assert set(rows["source"]) <= {"model", "fallback"}
    metrics = runs.read_metrics(unit.folder)
    assert metrics["hand_boxes"] == len(house.hand)
    assert cv2.imread(str(house.paths.editable_boxes_csv.with_suffix(".jpg"))) is not None
    assert f"IoU with {len(house.hand)} held-out hand boxes" in capsys.readouterr().out
    run_stage(house)
    assert capsys.readouterr().out == f"{unit.name}: up to date\n"


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
    stage = train.Stage(house.recipe, house.paths, build_settings())
    monkeypatch.setattr(predict, "open_stage", lambda prog: stage)
    with pytest.raises(UsageError, match=r"weights\.safetensors is missing.*stage0_bbox\.train"):
        predict.main()
    unit = run_stage(house)
    whole = read_table(house)
    house.paths.editable_boxes_csv.unlink()
    predict.main()
    pd.testing.assert_frame_equal(read_table(house), whole)
    assert unit.is_up_to_date


def test_a_new_label_trains_anew_and_a_margin_does_not(house, capsys):
    run_stage(house)
    capsys.readouterr()
    run_stage(house, margin=0.07)
    assert "model 1 of 2: up to date" in capsys.readouterr().out
    label_file = house.paths.data_folder / "boundingbox_csv" / "original_boundingbox.csv"
    house.write_via(label_file, house.hand | {"1.1": Box(20, 20, 90, 90)})
    assert not config.build_fit_step(house.recipe, house.paths, build_settings(), 0).is_up_to_date


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
