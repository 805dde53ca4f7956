"""Prepare as a whole: what it writes, what it refuses, and what is left after a crash."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr import processes, tables
from cxr.config import validate_settings
from cxr.datasets import kaggle, sample_submission
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError, UsageError, run_main
from cxr.imaging import grayscale, rle
from cxr.imaging.geometry import Letterbox
from cxr.paths import ROOT, Paths
from prepare import letterboxed_arrays
from prepare.steps import PrepareConfig, main, prepare_data

SIZE = 32


def run(data: Path, size: int = SIZE, folds: int = 2, subfolds: int = 2, seed: int = 1, recipe: str = "recipe") -> Path:
    paths = Paths(data, recipe, size)
    prepare_data(paths, PrepareConfig(size=size, folds=folds, subfolds=subfolds, seed=seed), workers=2)
    return paths.prepared_folder


def folds_of(folder: Path, recipe: str = "recipe") -> Path:
    """The folds of a recipe's run, beside the prepared folder."""
    return folder.parent / recipe / "folds" / "folds.csv"


def command(data: Path, *more: str) -> list[str]:
    options = f"--size {SIZE} --folds 2 --subfolds 2 --workers 2 --run recipe".split()
    return [sys.executable, "-m", "prepare", "--data", str(data), *options, *more]


def call(data: Path, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(data, *more), capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("run.json", ".lock")
    }


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.MULTILINE)
    assert count
    path.write_text(text)


# --- what it writes ----------------------------------------------------------------------------


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


# --- up to date --------------------------------------------------------------------------------


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


# --- bad input ---------------------------------------------------------------------------------


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


# --- crashes -----------------------------------------------------------------------------------


def test_a_process_that_dies_costs_one_task():
    tasks = [f"{number} ** 2" for number in range(30)]
    deadly = ["__import__('os')._exit(9)", "__import__('os').kill(__import__('os').getpid(), 9)"]
    results = dict(processes.map_unordered(eval, [*tasks[:11], deadly[0], *tasks[11:20], deadly[1], *tasks[20:]], 2))
    assert {task: results[task] for task in tasks} == {task: number**2 for number, task in enumerate(tasks)}
    assert all(results[task] is processes.DIED for task in deadly)


def test_an_exception_ends_the_run():
    with pytest.raises(ZeroDivisionError):
        list(processes.map_unordered(eval, ["1", "1 / 0", "2"], 2))


def test_leftovers_of_a_killed_run_are_removed(kaggle_folder):
    data = kaggle_folder()
    folder = run(data)
    whole = content(folder)
    for name in (".pixels.0123abcd.npy", ".manifest.0123abcd.parquet", ".run.0123abcd.json"):
        (folder / name).write_bytes(b"half")
    (folder / "run.json").unlink()
    (folder / "pixels.npy").write_bytes(b"old")
    assert content(run(data)) == whole


def test_a_failed_run_leaves_no_results(kaggle_folder):
    data = kaggle_folder()
    folder = run(data)
    edit(data / "train-rle.csv", r"^1.2.15, -1$", "1.2.15, 5")
    with pytest.raises(DataError):
        run(data)
    assert not content(folder)


def processes_of(word: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if word.encode() in environment:
            found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to see which processes are left")
def test_kill_in_the_middle_and_run_again(kaggle_folder, tmp_path):
    data = kaggle_folder()
    source = data / "dicom-images-train/1/1/1.2.1.dcm"
    for number in range(4000):
        os.link(source, data / "dicom-images-train" / f"more{number}.dcm")
    word = f"KILLED={tmp_path}"
    started = subprocess.Popen(command(data), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=os.environ | dict([word.split("=")]))  # fmt: skip
    folder = Paths(data, "", SIZE).prepared_folder
    for _ in range(1000):
        if list(folder.glob(".pixels.*")) and len(processes_of(word)) >= 4:
            break
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert not {"pixels.npy", "manifest.parquet", "run.json"} & set(os.listdir(folder))
    for _ in range(500):
        if not processes_of(word):
            break
        time.sleep(0.01)
    assert not processes_of(word)
    shutil.rmtree(data)
    assert set(content(run(kaggle_folder()))) >= {"pixels.npy", "manifest.parquet"}
    assert not list(folder.glob(".pixels.*"))


# --- real radiographs --------------------------------------------------------------------------


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
