"""What prepare writes, and when it has nothing to do."""

import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr import tables
from cxr.datasets import kaggle, sample_submission
from cxr.datasets.prepared import Prepared
from cxr.imaging import grayscale, rle
from cxr.imaging.geometry import Letterbox
from cxr.paths import ROOT
from prepare import letterboxed_arrays
from tests.prepare.prepare_runs import SIZE, command, content, edit, folds_of, run


def test_the_sample_is_kept_as_it_stands_and_what_is_left_out_is_said(kaggle_folder, capsys):
    data = kaggle_folder()
    (data / "sample_submission.csv").write_text("EncodedPixels,ImageId,Usage\n-1,ID_000000002.dcm,Public\n")
    edit(data / "patients.csv", "^1.2.3,.*", "1.2.3,nan")
    kept = sample_submission.load_sample_submission(run(data) / "sample.json")
    assert (kept.ids, kept.names) == (["ID_000000002"], {"ID_000000002": "ID_000000002.dcm"})
    printed = capsys.readouterr().out
    assert "sample_submission.csv has columns that submission.csv will not have: Usage" in printed
    assert "1 rows of patients.csv name no patient ('nan'): unknown" in printed


def test_manifest(kaggle_folder):
    table = tables.read_table(run(kaggle_folder()) / "manifest.parquet", tables.MANIFEST, "prepare")
    table = table.set_index("image_id")
    assert table["split"].value_counts().to_dict() == {"train": 16, "test": 3, "unlabelled": 1}
    assert table.loc["1.2.0", ["label", "patient", "age", "sex", "view"]].tolist() == [1, "p0", 45, "F", "PA"]
    assert table.loc["1.2.15", ["label", "rle", "mask_area"]].tolist() == [0, "-1", 0]
    for name in ("1.9.0", "ID_000000000"):
        assert table.loc[name, ["label", "rle", "patient"]].isna().all()
    assert all((kaggle_folder() / path).is_file() for path in table["path"])


def test_several_rows_of_an_image_are_united(kaggle_folder):
    data = kaggle_folder()
    prepared = Prepared(run(data))
    for name, rows in kaggle.find_layout(data).read_mask_rows().items():
        expected = rle.decode_union([row.code for row in rows], 64, 64)
        assert prepared.manifest.loc[name, "rle"] == rle.encode_mask(expected)
        assert prepared.manifest.loc[name, "mask_area"] == expected.sum()
        np.testing.assert_array_equal(prepared.read_original_mask(name), expected)
        shrunk = cv2.resize(expected.astype(np.uint8) * 255, (SIZE, SIZE), interpolation=cv2.INTER_AREA) > 127
        np.testing.assert_array_equal(prepared.read_mask(name), shrunk)


def test_pixels_are_the_letterboxed_gray(kaggle_folder, dicom):
    data = kaggle_folder()
    wide = np.random.default_rng(0).integers(0, 4096, (30, 90)).astype(np.uint16)
    dicom.save(dicom.dataset(wide, PhotometricInterpretation="MONOCHROME1"), data / "dicom-images-train/wide.dcm")
    prepared = Prepared(run(data))
    assert prepared.pixels.shape == (21, SIZE, SIZE)
    assert prepared.pixels.dtype == np.uint8
    for name in prepared.manifest.index:
        gray = grayscale.read_gray(data / prepared.manifest.loc[name, "path"])
        expected = Letterbox(*gray.shape, SIZE).image_to_canvas(gray)
        np.testing.assert_allclose(prepared.read_image(name).astype(int), expected, atol=8, err_msg=name)
        assert abs(prepared.read_image(name).astype(int) - expected).mean() < 1.5
    scale, dx, dy = prepared.index.loc["wide", ["scale", "dx", "dy"]]
    assert (scale, dx, dy) == (SIZE / 90, 0, (SIZE - round(30 * SIZE / 90)) // 2)


def test_index_and_manifest_are_in_one_order(kaggle_folder):
    prepared = Prepared(run(kaggle_folder()))
    assert prepared.index["row"].tolist() == list(range(20))
    assert prepared.index.index.tolist() == prepared.manifest.index.tolist()
    assert sorted(prepared.index.loc[prepared.index["mask_row"] >= 0, "mask_row"]) == list(range(len(prepared.masks)))


@pytest.mark.parametrize(("place", "side"), [((0, 0), 1), ((999, 1999), 1), ((500, 700), 3)])
def test_a_tiny_mask_does_not_vanish(place, side):
    mask = np.zeros((1000, 2000), bool)
    mask[place[0] : place[0] + side, place[1] : place[1] + side] = True
    box = Letterbox(1000, 2000, 64)
    shrunk = letterboxed_arrays.shrink_mask(mask, box)
    (y, x), (dx, dy) = np.argwhere(shrunk)[0], box.content_offset
    assert shrunk.sum() == 1
    assert abs((x - dx) / box.scale - place[1]) <= 1 / box.scale
    assert abs((y - dy) / box.scale - place[0]) <= 1 / box.scale


@pytest.mark.parametrize(("text", "age"), [
    ("045Y", 45), ("45", 45), ("7", 7), ("018M", 1.5), ("000Y", 0), ("", None), ("413", None), ("Y", None),
    ("abc", None), (" 061Y ", 61), ("-5", None),
])  # fmt: skip
def test_ages(text, age):
    assert letterboxed_arrays.parse_age(text) == age


@pytest.mark.parametrize("rows", [
    ["0 3", "2 4", "11 1"], ["-1"], ["-1", "4 2"], ["0 12"], ["1 1 0 1"], ["5 2", "5 2"], ["8 2", "0 4"],
    ["0 10", "3 2"],
])  # fmt: skip
def test_union_of_runs_against_masks(rows):
    found = letterboxed_arrays._merge_runs([rle.parse_runs(row, 12) for row in rows])
    expected = rle.decode_union(rows, 3, 4)
    flat = np.zeros(12, bool)
    for start, end in found:
        flat[start:end] = True
    np.testing.assert_array_equal(flat.reshape(4, 3).T, expected)
    assert not len(found) or letterboxed_arrays._encode_runs(found) == rle.encode_mask(expected)


def test_the_second_run_is_up_to_date_and_imports_nothing_heavy(kaggle_folder):
    data = kaggle_folder()
    run(data)
    code = (
        f"import sys; sys.argv[1:] = {command(data)[3:]!r}; from prepare.steps import main; main();"
        "print(*{'numpy', 'pandas', 'cv2', 'pydicom', 'sklearn', 'PIL'} & set(sys.modules))"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert again.stdout == "prepare: up to date\n\n"


@pytest.mark.parametrize("other", [{"folds": 4, "subfolds": 1}, {"seed": 2}, {"subfolds": 1}])
def test_another_recipes_folds_are_its_own_and_decode_nothing(kaggle_folder, capsys, other):
    data = kaggle_folder()
    folder = run(data)
    before, ours = (folder / "pixels.npy").stat().st_mtime_ns, folds_of(folder).read_bytes()
    run(data, recipe="other", **other)
    assert (folder / "pixels.npy").stat().st_mtime_ns == before
    assert folds_of(folder).read_bytes() == ours != folds_of(folder, "other").read_bytes()
    assert Prepared(folder, folds_of(folder, "other")).fold_count == other.get("folds", 2)
    capsys.readouterr()
    run(data)
    run(data, recipe="other", **other)
    assert capsys.readouterr().out == "prepare: up to date\n" * 2


def test_a_change_of_the_data_is_seen(kaggle_folder, capsys):
    data = kaggle_folder()
    run(data)
    edit(data / "train-rle.csv", r"^1.2.15, -1$", "1.2.15, 0 100")
    folder = run(data)
    assert Prepared(folder).manifest.loc["1.2.15", "mask_area"] == 100
    (data / "dicom-images-train/15/15/1.2.15.dcm").unlink()
    assert "1.2.15" not in Prepared(run(data)).manifest.index
    assert "up to date" not in capsys.readouterr().out


def test_the_same_again_gives_the_same_bytes(kaggle_folder, monkeypatch):
    data = kaggle_folder()
    first = content(run(data))
    monkeypatch.setenv("FORCE", "1")
    assert content(run(data)) == first
    written = {"index.parquet", "manifest.parquet", "masks.npy", "pixels.npy", "rejected.csv", "sample.json"}
    assert set(first) == written


def test_real_radiographs(real):
    folder = run(real, size=128, folds=3, subfolds=2)
    prepared = Prepared(folder, folds_of(folder))
    counts = prepared.manifest[prepared.manifest["split"] != "unlabelled"]
    assert counts["split"].value_counts().to_dict() == {"train": 313, "test": 167}
    assert prepared.manifest["label"].sum() == 113
    for name in prepared.manifest.index[prepared.manifest["label"] == 1][:20]:
        expected = cv2.resize(
            prepared.read_original_mask(name).astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA
        )
        assert prepared.read_mask(name).any()
        assert abs(prepared.read_mask(name).sum() - expected.sum()) < 0.15 * expected.sum() + 3
    patients = prepared.folds.join(prepared.manifest["patient"]).groupby("patient")
    assert patients[["fold", "subfold"]].nunique().max().tolist() == [1, 1]
    reasons = pd.read_csv(folder / "rejected.csv")
    assert reasons["path"].str.startswith("dicom_hard/").all()
