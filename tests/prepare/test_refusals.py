"""What prepare refuses or leaves out, and what it says of it."""

import re
import shutil
import sys

import numpy as np
import pytest

from cxr import tables
from cxr.config import validate_settings
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError, UsageError, run_main
from prepare.steps import PrepareConfig, main
from tests.prepare.prepare_runs import call, command, edit, folds_of, run


def test_refused_images_leave_no_gap(kaggle_folder, dicom):
    data = kaggle_folder()
    whole = Prepared(run(data))
    pictures = {name: whole.read_image(name).copy() for name in whole.manifest.index}
    masks = {name: whole.read_mask(name).copy() for name in whole.manifest.index}
    (data / "dicom-images-train/0/0/1.2.0.dcm").write_bytes(b"broken")  # the first, with a mask
    (data / "dicom-images-train/7/7/1.2.7.dcm").write_bytes(b"")
    ct = dicom.dataset(np.zeros((8, 8), np.uint16), Modality="CT")
    dicom.save(ct, data / "dicom-images-test/ID_000000001.dcm")
    prepared = Prepared(run(data))
    rejected = tables.read_table(prepared.folder / "rejected.csv", tables.REJECTED, "prepare").set_index("path")[
        "reason"
    ]
    assert rejected.to_dict() == {
        "dicom-images-train/0/0/1.2.0.dcm": "not a DICOM file (it has no DICM prefix)",
        "dicom-images-train/7/7/1.2.7.dcm": "the file is empty",
        "dicom-images-test/ID_000000001.dcm": "not a radiograph: modality CT (accepted: CR, DX, DR, RG)",
    }
    assert len(prepared.pixels) == len(prepared.manifest) == 17
    for name in prepared.manifest.index:
        np.testing.assert_array_equal(prepared.read_image(name), pictures[name])
        np.testing.assert_array_equal(prepared.read_mask(name), masks[name])


@pytest.mark.parametrize(("code", "reason"), [
    ("0 4097", "runs to pixel 4097, but the image has 4096"), ("1 2 3", "odd count of numbers"),
    ("0 9 -4 2", "negative offset"), ("1 x", "not a whole number"),
])  # fmt: skip
def test_a_bad_row_is_named(kaggle_folder, code, reason):
    data = kaggle_folder()
    edit(data / "train-rle.csv", r"^1.2.15, -1$", f"1.2.15, {code}")
    line = data.joinpath("train-rle.csv").read_text().splitlines().index(f"1.2.15, {code}") + 1
    with pytest.raises(DataError, match=rf"train-rle.csv, line {line}: .* image 1.2.15 .*{reason}"):
        run(data)


def test_rows_without_an_image_are_counted_once(kaggle_folder, capsys):
    data = kaggle_folder()
    with open(data / "train-rle.csv", "a") as handle:
        handle.writelines(f"gone{number}, -1\n" for number in range(7))
    run(data)
    said = capsys.readouterr().out
    assert said.count("7 images of train-rle.csv have no DICOM file: gone0, gone1, gone2, gone3, gone4, ...\n") == 1


@pytest.mark.parametrize("case", ["no dicom", "all broken", "no row fits", "labelled ones broken", "no rows"])
def test_nothing_to_work_on(kaggle_folder, tmp_path, case):
    data = kaggle_folder(patients=2, each=1, tests=1)
    broken = {"all broken": "*.dcm", "labelled ones broken": "1.2.*.dcm"}
    for path in data.rglob(broken.get(case, "nothing")):
        path.write_bytes(b"broken")
    if case == "no dicom":
        shutil.rmtree(data / "dicom-images-train")
        shutil.rmtree(data / "dicom-images-test")
    if case == "no row fits":
        (data / "train-rle.csv").write_text("ImageId,EncodedPixels\nother,-1\n")
    if case == "no rows":
        (data / "train-rle.csv").unlink()
    words = {"no dicom": "holds no DICOM file", "all broken": "no usable image: all 4 DICOM files are refused",
             "no row fits": "none of 4 DICOM files is named by one of the 1 images of train-rle.csv",
             "labelled ones broken": "no labelled training image: all 2 of them are refused",
             "no rows": "has no mask rows"}  # fmt: skip
    with pytest.raises(DataError, match=words[case]):
        run(data)


def test_too_few_for_the_folds(kaggle_folder):
    words = "too few for 9 folds of 2 subfolds each: 16 labelled images of 8 patients, of them 8 images of 4 patients"
    with pytest.raises(DataError, match=words):
        run(kaggle_folder(), folds=9)


def test_without_patients(kaggle_folder, capsys):
    folder = run(kaggle_folder(with_patients=False))
    assert "patients unknown: grouped by near-duplicates alone (16 images)" in capsys.readouterr().out
    assert len(Prepared(folder, folds_of(folder)).folds) == 16


def test_exit_codes_and_words(kaggle_folder):
    data = kaggle_folder()
    done = call(data)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert "20 images, 16 train, 8 with pneumothorax, 1 unlabelled, 3 test, 0 rejected" in done.stdout
    for word in ("Secret", "secret-id", "1.2.3"):
        assert word not in done.stdout + done.stderr
    edit(data / "train-rle.csv", r"^1.2.15, -1$", "1.2.15, 5")
    done = call(data)
    assert done.returncode == 3
    assert re.fullmatch(r"error: .*train-rle.csv, line \d+: .*odd count.*\n", done.stderr)


@pytest.mark.parametrize(("arguments", "words"), [
    (("--data", "/no/such/folder"), "the data folder /no/such/folder does not exist"), (("--size", "30"), "size"),
    (("--folds", "1"), "folds"), (("--depth", "3"), "--depth"),
])  # fmt: skip
def test_wrong_usage(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.setattr(sys, "argv", [*command(tmp_path)[2:], *arguments])
    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


def test_size_is_a_multiple_of_8():
    with pytest.raises(UsageError, match="size"):
        validate_settings({"size": 100, "folds": 2, "subfolds": 2}, PrepareConfig, "prepare")
