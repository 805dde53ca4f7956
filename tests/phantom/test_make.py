"""The data set on disk: Kaggle's layout and dialects, whole or not at all, the same bytes from the same seed."""

import csv
import hashlib
import json
from collections import Counter

import numpy as np
import pydicom
import pytest

from cxr.errors import UsageError
from cxr.imaging import rle
from phantom import make as making
from phantom.config import default_config
from phantom.make import make_phantoms
from phantom.plan import plan_dataset
from phantom.tables import encode_mask

CONFIG = default_config().model_copy(
    update={
        "train": 12, "test": 5, "size": 128, "positive_share": 0.5, "monochrome1": 0.1, "twelve_bit": 0.1,
        "jpeg2000": 0.1, "split_rows": 1.0, "unlabelled": 0.1,
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "data"
    make_phantoms(out, CONFIG, processes=1)
    return out


def table(path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digests(folder) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_processes(made, tmp_path):
    make_phantoms(tmp_path / "again", CONFIG, processes=2)
    assert digests(tmp_path / "again") == digests(made)


def test_the_label_is_the_mask(made):
    truth = {}
    for row in table(made / "test-truth.csv"):
        truth.setdefault(row["ImageId"], []).append(row["EncodedPixels"])
    planned = {item.image_id: item.positive for item in plan_dataset(CONFIG) if item.split == "test"}
    assert {key: rle.decode_union(codes, 128, 128).any() for key, codes in truth.items()} == planned


def test_train_rows_keep_kaggles_blanks(made):
    lines = (made / "train-rle.csv").read_text().splitlines()
    assert lines[0] == "ImageId, EncodedPixels"
    assert all(line.split(",")[1].startswith(" ") for line in lines)
    assert any(line.endswith(", -1") for line in lines)


def test_some_images_have_several_rows_and_some_none(made):
    rows = Counter(row["ImageId"] for row in table(made / "train-rle.csv"))
    images = {path.stem for path in (made / "dicom-images-train").rglob("*.dcm")}
    assert max(rows.values()) > 1
    assert rows.keys() < images
    assert len(images) == CONFIG.train


def test_patients_cover_the_training_images_several_each(made):
    rows = table(made / "patients.csv")
    assert {row["ImageId"] for row in rows} == {path.stem for path in (made / "dicom-images-train").rglob("*.dcm")}
    assert max(Counter(row["patient"] for row in rows).values()) > 1


def test_every_image_is_said_to_show_a_chest_tube_or_none(made):
    seen = {row["ImageId"]: row["chest_tube"] for row in table(made / "chest_tubes.csv")}
    assert seen.keys() == {item.image_id for item in plan_dataset(CONFIG)}
    assert set(seen.values()) == {"0", "1"}


def test_no_patient_is_in_train_and_test():
    items = plan_dataset(default_config())
    train, test = ({item.patient for item in items if item.split == split} for split in ("train", "test"))
    assert not train & test


def test_the_plan_meets_the_shares():
    items = [item for item in plan_dataset(default_config()) if item.split == "train"]
    assert np.mean([item.positive for item in items]) == pytest.approx(0.22, abs=0.003)
    assert np.mean([item.has_hand_box for item in items]) == 0.5
    assert np.mean([item.is_labelled for item in items]) == pytest.approx(0.98, abs=0.003)
    storage = Counter(item.storage for item in items)
    assert storage["jpeg2000"] == 5
    assert storage["inverted"] == 24


def test_test_images_are_named_as_kaggles(made):
    names = [row["ImageId"] for row in table(made / "sample_submission.csv")]
    assert names == sorted(path.stem for path in (made / "dicom-images-test").rglob("*.dcm"))
    assert all(len(name) == 12 and name.startswith("ID_") for name in names)
    assert {row["Filename"] for row in table(made / "test-boxes.csv")} == {f"{name}.png" for name in names}


def test_hand_boxes_are_vias_for_half_of_the_training_images(made):
    rows = table(made / "boundingbox_csv" / "original_boundingbox.csv")
    assert len(rows) == CONFIG.train // 2
    for row in rows:
        shape = json.loads(row["region_shape_attributes"])
        assert row["filename"].endswith(".jpg")
        assert shape["name"] == "rect"
        assert min(shape["width"], shape["height"]) > 40


def test_every_way_of_storing_reads_back(made):
    syntaxes, senses = set(), set()
    for path in made.rglob("*.dcm"):
        data = pydicom.dcmread(path)
        assert data.pixel_array.shape == (128, 128)
        assert data.pixel_array.std() > 0
        assert (data.Modality, data.BodyPartExamined) == ("CR", "CHEST")
        assert data.ViewPosition in ("PA", "AP")
        assert data.PatientSex in ("M", "F")
        assert 18 <= int(data.PatientAge[:3]) <= 90
        assert path.parts[-3:-1] == (data.StudyInstanceUID, data.SeriesInstanceUID)
        syntaxes.add((data.file_meta.TransferSyntaxUID.name, data.BitsStored))
        senses.add(data.PhotometricInterpretation)
    assert {bits for _, bits in syntaxes} == {8, 12}
    assert len({name for name, _ in syntaxes}) == 3
    assert senses == {"MONOCHROME1", "MONOCHROME2"}


def test_patient_id_does_not_tell_patients_apart(made):
    files = list(made.rglob("*.dcm"))
    assert len({pydicom.dcmread(path, stop_before_pixels=True).PatientID for path in files}) == len(files)


def test_codes_of_rows_add_up_to_the_mask():
    mask = np.zeros((40, 40), bool)
    mask[3:9, 4:30] = True
    assert len(encode_mask(mask, per_region=False)) == 1
    assert len(encode_mask(mask, per_region=True)) == 2
    mask[20:30, 5:9] = mask[30:40, 39] = True
    assert len(encode_mask(mask, per_region=True)) == 3
    assert np.array_equal(rle.decode_union(encode_mask(mask, per_region=True), 40, 40), mask)
    assert encode_mask(np.zeros((4, 4), bool), per_region=True) == ("-1",)


def test_killed_half_way_leaves_nothing_and_the_next_call_makes_all(made, tmp_path, monkeypatch):
    out, count = tmp_path / "data", iter(range(5))

    def fall_over(*arguments):
        if next(count) == 4:
            raise KeyboardInterrupt
        return whole(*arguments)

    whole = making.write_phantom
    monkeypatch.setattr(making, "write_phantom", fall_over)
    with pytest.raises(KeyboardInterrupt):
        make_phantoms(out, CONFIG, processes=1)
    assert not out.exists()
    monkeypatch.setattr(making, "write_phantom", whole)
    make_phantoms(out, CONFIG, processes=1)
    assert digests(out) == digests(made)


def test_made_already_is_up_to_date_and_others_files_are_left(made, tmp_path, capsys):
    make_phantoms(made, CONFIG)
    assert "up to date" in capsys.readouterr().err
    with pytest.raises(UsageError, match="remove it"):
        make_phantoms(tmp_path, CONFIG)
