"""What stops prepare makes the data unusable in the doctor's eyes, and nothing else does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.errors import DataError
from cxr.paths import Paths
from datatools.doctor.examine import examine_dataset
from prepare.steps import PrepareConfig, prepare_data

SMALL = PrepareConfig(size=64, folds=2, subfolds=2)


def unreadable(data: Path, name: str) -> None:
    next(data.rglob(f"{name}.dcm")).write_bytes(b"no DICOM")


def second_file(data: Path, name: str) -> None:
    (data / f"{name}.dcm").write_bytes(next(data.rglob("1.2.1.dcm")).read_bytes())


def line(table: str, text: str) -> Callable[[Path], object]:
    return lambda data: (data / table).write_text((data / table).read_text() + text + "\n")


STOPS = {
    "bad-rle": [line("train-rle.csv", "1.2.0,5 5 5")],
    "rle-outside": [line("train-rle.csv", "1.2.0,5 999999")],
    "images-in-both": [line("sample_submission.csv", "1.2.0,-1")],
    "table-unreadable": [line("sample_submission.csv", "alone")],
    "same-name": [lambda data: second_file(data, "1.2.0")],
}
PASSES = {
    "a bad row of an image that is left out": [*STOPS["bad-rle"], lambda data: unreadable(data, "1.2.0")],
    "one that runs out of it": [*STOPS["rle-outside"], lambda data: unreadable(data, "1.2.0")],
    "a bad row without image": [line("train-rle.csv", "ghost,5 5 5")],
    "an id in both without image": [line("train-rle.csv", "ghost,5 5"), line("sample_submission.csv", "ghost,-1")],
}


@pytest.mark.parametrize("kind", STOPS)
def test_prepare_stops_where_the_doctor_says_so(kaggle_folder, kind):
    data = kaggle_folder()
    for plant in STOPS[kind]:
        plant(data)
    report = examine_dataset(data, workers=1)
    assert kind in {one.id for one in report.findings}
    assert report.exit_code == 3
    with pytest.raises(DataError):
        prepare_data(Paths(data, "r", 64), SMALL, workers=1)


@pytest.mark.parametrize("kind", PASSES)
def test_the_doctor_lets_pass_what_prepare_takes(kaggle_folder, kind):
    data = kaggle_folder()
    for plant in PASSES[kind]:
        plant(data)
    prepare_data(Paths(data, "r", 64), SMALL, workers=1)
    assert examine_dataset(data, workers=1).exit_code == 4
