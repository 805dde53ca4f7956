"""A step of stage 1: the files that stage 3 reads, and one framework a process."""

import subprocess
from types import SimpleNamespace

import numpy as np

from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.imaging.geometry import Box
from cxr.runs import read_metrics
from stage1_classify import config, train
from stage1_classify.data import ClassifierData
from stage1_classify.frameworks import dispatch_by_framework
from stage1_classify.timm_members import backend
from tests.stage1_classify.conftest import RECIPE


def test_unit_writes_what_the_contract_says(paths, monkeypatch):
    for fold in range(2):
        unit = config.build_training_step(RECIPE, paths, "smoke", fold, config.read_member("smoke"))
        train.run_step(unit, lambda identity, noted, unit=unit: train.train(unit, RECIPE, paths, identity, noted))
        assert unit.is_up_to_date
        found = tables.read_table(unit.folder / "predictions.parquet", tables.PREDICTIONS, "").set_index("image_id")
        features = np.load(unit.folder / "features.npz", allow_pickle=False)
        assert features["image_id"].tolist() == found.index.tolist()
        assert features["features"].shape == (len(found), 8)
        assert features["features"].dtype == np.float32
        folds = Prepared(paths.prepared_folder, paths.folds_csv).folds
        assert set(found.index[found["split"] == "train"]) == set(folds.index[folds["fold"] == fold])
        assert (found["split"] == "test").sum() == 3
        assert not (unit.folder / "checkpoint.pt").exists()
        assert read_metrics(unit.folder)["start"] == {"name": "random"}
        again = backend.infer(_data_of(paths, unit), list(found.index), unit.folder)
        assert np.allclose(again[0], found["prob"], atol=1e-6)  # saved and loaded, it says the same


def _data_of(paths, unit) -> ClassifierData:
    prepared = Prepared(paths.prepared_folder, paths.folds_csv)
    boxes = {image_id: Box(4, 8, 60, 56) for image_id in prepared.manifest.index}
    return ClassifierData(prepared, boxes, unit.settings.member, [], 1)


def test_a_stage_hands_members_of_another_framework_to_another_process(monkeypatch):
    torchs, kerass = config.read_member("smoke"), config.read_member("smoke").model_copy(update={"framework": "keras"})
    called = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: called.append(command) or SimpleNamespace(returncode=0))
    members = {"a": torchs, "b": kerass, "c": torchs}
    assert [name for name, _ in dispatch_by_framework(members, "m", ["--fold", "1"])] == ["a", "c"]
    assert [command[1:] for command in called] == [["-m", "m", "--member", "b", "--fold", "1"]]
