"""The TFRecords that a recipe's members train from are written by the run, and again only where they must be."""

import pytest

from cxr.files import read_json
from cxr.paths import ROOT
from cxr.recipe import read_recipe
from pipeline import launch


@pytest.fixture
def commands(monkeypatch):
    """The commands that launch starts; an export writes one file."""
    commands = []

    def start(_name, command):
        commands.append(command[0])
        if command[0] == "datatools.export":
            export_folder.mkdir(parents=True, exist_ok=True)
            (export_folder / "train-0-3.tfrec").write_bytes(b"three images")

    monkeypatch.setattr(launch.jobs, "run_module", start)
    export_folder = launch_paths("reyvaz_tfrecord").artifacts_folder / "export" / "tfrecord"
    return commands


def launch_paths(name: str):
    return read_recipe(ROOT / "recipes" / f"{name}.yaml").build_paths(ROOT / "no data")


def prepare(name: str) -> None:
    paths = launch_paths(name)
    for path in (paths.prepared_folder / "manifest.parquet", paths.prepared_folder / "pixels.npy", paths.folds_csv):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    launch.prepare_data(read_recipe(ROOT / "recipes" / f"{name}.yaml"), paths)


def test_records_are_written_once_and_again_for_other_folds_or_when_lost(home, commands):
    paths = launch_paths("reyvaz_tfrecord")
    prepare("reyvaz_tfrecord")
    prepare("reyvaz_tfrecord")
    assert commands == ["prepare", "datatools.export", "prepare"]
    paths.folds_csv.write_text("other folds")
    prepare("reyvaz_tfrecord")
    (paths.artifacts_folder / "export" / "tfrecord" / "train-0-3.tfrec").unlink()
    prepare("reyvaz_tfrecord")
    assert commands[3:] == ["prepare", "datatools.export"] * 2


def test_members_that_train_from_arrays_need_none(home, commands):
    prepare("reyvaz")
    assert commands == ["prepare"]


@pytest.mark.parametrize(
    "module", ["datatools.export.tfrecord", "datatools.export.image_encoding", "cxr.tfkit.records"]
)
def test_records_depend_on_the_code_that_writes_them(home, commands, module):
    prepare("reyvaz_tfrecord")
    assert module in read_json(launch_paths("reyvaz_tfrecord").artifacts_folder / "records" / "run.json")["source"]
