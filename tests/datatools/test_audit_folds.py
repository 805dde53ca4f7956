"""The audit of fold files: ours and strangers', clean ones and those with a planted leak."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from cxr.datasets.prepared import Prepared
from cxr.errors import DataError, UsageError, run_main
from cxr.paths import Paths
from datatools import audit_folds
from evaluation import leakage


class Done(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(monkeypatch, capsys):
    """A function that runs the command with the arguments given."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["datatools.audit_folds", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_main(audit_folds.main)
        return Done(ended.value.code, *capsys.readouterr())

    return run


# --- fold files of any make --------------------------------------------------------------------


@pytest.mark.parametrize(("text", "folds", "labels"), [
    ("image_id,fold,subfold\na,0,1\nb,1,0\n", {"a": "0", "b": "1"}, None),
    ("fname,fold,exist_labels\na.png,0,1\nb.png,3,0\n", {"a": "0", "b": "3"}, {"a": 1, "b": 0}),
    (",ImageId, EncodedPixels,kfold\n0,a, 1 5,0.0\n1,b, -1,1.0\n", {"a": "0", "b": "1"}, {"a": 1, "b": 0}),
    ("id,Filename,Split\n1,x/y/1.2.3.DCM,Training\n2,x\\1.2.4.jpg,valid\n", {"1.2.3": "train", "1.2.4": "valid"}, None),
    ("img_id,is_valid\na,False\nb,True\n", {"a": "train", "b": "valid"}, None),
    ("image,Fold,rle\na,0,-1\na,0,5 5\nb,1,-1\nc,-1,-1\n", {"a": "0", "b": "1"}, {"a": 1, "b": 0, "c": 0}),
])  # fmt: skip
def test_columns_are_found_by_name(tmp_path, text, folds, labels):
    path = tmp_path / "folds of a stranger.csv"
    path.write_text("\ufeff" + text, encoding="utf-8")
    found, found_labels = audit_folds.read_fold_file(path)
    assert dict(zip(found["image_id"], found["fold"], strict=True)) == folds
    assert found_labels == labels


@pytest.mark.parametrize(("text", "error", "words"), [
    ("who,fold\na,0\nb,1\n", DataError, "no column of the image among who, fold"),
    ("image_id,number\na,0\nb,1\n", DataError, "no column of the fold among image_id, number"),
    ("image_id,fold\na,0\nb,0\n", UsageError, "nothing is held out"), ("", DataError, "is no CSV"),
    ("image_id,fold,split\n", UsageError, "nothing is held out"),
    ("image_id,fold\n", UsageError, "nothing is held out"), ("\x00\xff,fold\n", DataError, "no"),
])  # fmt: skip
def test_what_is_no_fold_file(tmp_path, text, error, words):
    path = tmp_path / "folds.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(error, match=words):
        audit_folds.read_fold_file(path)


LONG = "image_id,fold,{split}\na,0,{t}\nb,0,{t}\nc,0,{v}\na,1,{v}\nb,1,{t}\nc,1,{t}\nx,1,\n"


@pytest.mark.parametrize(("split", "t", "v"), [("split", "train", "valid"), ("is_valid", "False", "True")])
def test_a_row_for_each_image_and_fold_is_audited_fold_by_fold(tmp_path, split, t, v):
    path = tmp_path / "long.csv"
    path.write_text(LONG.format(split=split, t=t, v=v).replace("x,1,\n", "" if split != "split" else "x,1,\n"))
    folds, _ = audit_folds.read_fold_file(path)
    clean = leakage.measure_leakage(folds, {"a": "1", "b": "2", "c": "3"}, {}, None)
    assert not clean["leak"]
    assert (clean["images"], clean["patients_known"]) == (3, 3)
    assert [(row["fold"], row["images"]) for row in clean["folds"]] == [("0", 1), ("1", 1)]
    found = leakage.measure_leakage(
        folds, {"a": "1", "b": "1", "c": "3"}, None, None
    )  # b trains for a; c is held out alone
    assert [row["patient"]["images"] for row in found["folds"]] == [0, 1]
    assert found["all"]["patient"] == {"images": 1, "share": 0.5, "positive": None, "positive_share": None}


def test_each_fold_may_hold_out_several_parts(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text(LONG.format(split="set", t="train", v="valid").replace("b,0,train", "b,0,test") + "d,0,train\n")
    folds, _ = audit_folds.read_fold_file(path)
    assert sorted(set(folds["fold"])) == ["0 test", "0 valid", "1 valid", "train"]
    found = leakage.measure_leakage(folds, {"b": "1", "d": "1", "a": "2", "c": "3"}, None, None)
    seen = {row["fold"]: row["patient"]["images"] for row in found["folds"]}
    assert seen == {"0 test": 1, "0 valid": 0, "1 valid": 0}


def test_a_file_of_one_fold_is_audited_by_its_split(tmp_path):
    path = tmp_path / "fold0.csv"
    path.write_text("image_id,fold,split\na,0,train\nb,0,valid\n")
    folds, _ = audit_folds.read_fold_file(path)
    assert leakage.measure_leakage(folds, {"a": "1", "b": "1"}, None, None)["all"]["patient"]["images"] == 1


@pytest.mark.parametrize(("text", "words"), [
    ("image_id,fold\na,0\nb,0\na,1\nb,1\n", "image a is in several folds of column fold.*add a column split"),
    ("image_id,split\na,0\nb,0\na,1\nb,1\n", "image a is in several folds of column split"),
    ("image_id,fold,split\na,0,train\na,1,train\nb,1,train\n", "fold 0: column split says train only"),
    ("image_id,fold,split\na,0,valid\nb,0,test\na,1,train\nb,1,valid\n", "fold 0: column split says test, valid only"),
])  # fmt: skip
def test_folds_that_do_not_say_what_they_train_on(tmp_path, text, words):
    path = tmp_path / "folds.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        audit_folds.read_fold_file(path)


def test_an_image_in_both_parts_of_a_split_is_a_leak(tmp_path):
    path = tmp_path / "folds.csv"
    path.write_text("image_id,split\na,train\na,valid\nb,train\n")
    assert leakage.measure_leakage(audit_folds.read_fold_file(path)[0], {}, None, None)["all"]["patient"]["images"] == 1


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def folds_of(prepared_paths: Paths, tmp_path: Path):
    """Our own folds of a small data folder, and a place for the figures."""
    return prepared_paths, prepared_paths.folds_csv, tmp_path / "the figures.json"


def test_our_own_folds_are_clean(folds_of, call):
    paths, folds, figures = folds_of
    done = call(
        folds, "--patients", paths.data_folder / "patients.csv", "--images", paths.prepared_folder, "--json", figures
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert found["all"] == {
        "images": 16, "positive": 8,
        "patient": {"images": 0, "share": 0.0, "positive": 0, "positive_share": 0.0},
        "duplicate": {"images": 0, "share": 0.0, "positive": 0, "positive_share": 0.0},
    }  # fmt: skip


def test_a_planted_leak_and_a_planted_copy(folds_of, call):
    """One of two images of a patient changes its fold, and one of another patient gets a third's pixels."""
    paths, folds, figures = folds_of
    stranger = pd.read_csv(folds, dtype=str)
    manifest = Prepared(paths.prepared_folder, paths.folds_csv).manifest
    moved = stranger["image_id"][0]
    stranger.loc[0, "fold"] = "1" if stranger["fold"][0] == "0" else "0"
    kept = stranger[stranger["image_id"].map(manifest["patient"]) != manifest["patient"][moved]]
    one, other = (kept["image_id"][kept["fold"] == fold].iloc[0] for fold in ("0", "1"))
    source, target = (next(paths.data_folder.rglob(f"{name}.dcm")) for name in (one, other))
    target.write_bytes(source.read_bytes())
    stranger.to_csv(folds.with_name("stranger.csv"), index=False)
    done = call(folds.with_name("stranger.csv"), "--images", paths.data_folder, "--json", figures)
    assert done.returncode == 4, done.stderr
    found = json.loads(figures.read_text())["all"]
    assert (found["patient"]["images"], found["duplicate"]["images"]) == (2, 2)


@pytest.mark.parametrize(("more", "code", "words"), [
    (["--patients", "nowhere.csv"], 2, "nowhere.csv does not exist"),
    (["--labels", "{folds}"], 3, "expected the columns ImageId, EncodedPixels"),
    (["--patients", "{others}"], 3, "none of the 2 images of the fold file, as 'a', has a patient"),
])  # fmt: skip
def test_files_that_do_not_fit(tmp_path, call, more, code, words):
    folds, others = tmp_path / "folds.csv", tmp_path / "others.csv"
    folds.write_text("image_id,fold\na,0\nb,1\n")
    others.write_text("ImageId,patient\nx,1\n")
    done = call(folds, *(part.format(folds=folds, others=others) for part in more))
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
