"""Who is held out from which model, and by which models an image is detected."""

import numpy as np
import pandas as pd
import pytest
import torch

from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError
from stage0_bbox import config, detect, train
from stage0_bbox.data import assign_folds
from stage0_bbox.network import Detector


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
