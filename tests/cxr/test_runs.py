"""What makes a step run again: its settings, its inputs, and what became of its outputs; and what does not."""

import os
import shutil
from pathlib import Path

import pytest

from cxr import digests, runs, step
from cxr.config import StrictModel
from cxr.errors import UsageError
from cxr.files import read_json, write_json
from cxr.paths import Paths
from cxr.step import Step
from cxr.training.settings import Training

LARGE = bytes(digests.MIN_CACHED_BYTES)


class Settings(StrictModel):
    number: int = 1


class Trained(StrictModel):
    training: Training


def unit_of(paths: Paths, **changes) -> Step:
    """A unit that reads four files, two of them of one name, and writes three, one of them elsewhere."""
    given = {
        "name": "toy", "room": "cxr", "command": ("cxr.imaging.rle",), "folder": paths.fold_folder(1, "toy", 0),
        "settings": Settings(),
        "inputs": (paths.prepared_folder / "pixels.npy", paths.fold_folder(1, "other", 0) / "weights",
                   paths.data_folder / "a" / "table.csv", paths.data_folder / "b" / "table.csv",
                   paths.stage0_folder / "boxes.csv"),
        "outputs": (paths.fold_folder(1, "toy", 0) / "large.npy", paths.fold_folder(1, "toy", 0) / "small.csv",
                    paths.submission_csv),
        "editable_outputs": (paths.fold_folder(1, "toy", 0) / "decision.json",),
    }  # fmt: skip
    return Step(**given | changes)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def make(unit: Step) -> list[str]:
    """Run the unit where it is not up to date; what it wrote."""
    made = []

    def work(_identity: str, metrics: dict) -> None:
        for path in (*unit.outputs, *unit.editable_outputs):
            write(path, LARGE if path.suffix == ".npy" else b'{"gate": 0.5}')
            made.append(path.name)
        metrics["auc"] = 0.5

    step.run_step(unit, work)
    return made


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = Paths(tmp_path / "xray", "recipe", 64)
    for number, path in enumerate(unit_of(found).inputs):
        write(path, LARGE if number == 0 else b"%d" % number)
    return found


def test_a_second_run_does_nothing_and_a_touched_file_is_the_same(paths):
    unit = unit_of(paths)
    assert make(unit)
    for path in (*unit.inputs, *unit.outputs):
        os.utime(path, (1, 1))
    assert not make(unit)


@pytest.mark.parametrize("name", ["large.npy", "small.csv", "submission.csv"])
@pytest.mark.parametrize("damage", ["cut", "edited", "removed"])
def test_an_output_that_is_not_as_it_was_written_is_made_again(paths, capsys, name, damage):
    unit = unit_of(paths)
    make(unit)
    (path,) = [path for path in unit.outputs if path.name == name]
    whole = path.read_bytes()
    changed = {"cut": whole[:-1], "edited": b"x" + whole[1:], "removed": None}[damage]
    path.unlink() if changed is None else path.write_bytes(changed)
    assert not unit.is_up_to_date
    capsys.readouterr()
    assert make(unit)
    assert name in capsys.readouterr().out
    assert path.read_bytes() == whole
    assert unit.is_up_to_date


def test_what_a_user_may_edit_is_kept_while_it_is_whole(paths):
    unit = unit_of(paths)
    make(unit)
    (path,) = unit.editable_outputs
    write_json(path, {"gate": 0.9})
    assert not make(unit)
    assert read_json(path) == {"gate": 0.9}
    for damage in (lambda: path.write_bytes(path.read_bytes()[:5]), path.unlink):
        damage()
        assert make(unit)
        assert read_json(path) == {"gate": 0.5}


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:99]), Path.unlink])
def test_a_record_that_is_cut_or_gone_is_made_again(paths, damage):
    unit = unit_of(paths)
    make(unit)
    record = read_json(unit.folder / "run.json")
    damage(unit.folder / "run.json")
    assert make(unit)
    after = read_json(unit.folder / "run.json")
    assert [after.pop(key) >= 0 and record.pop(key) >= 0 for key in ("seconds", "peak_bytes")] == [True, True]
    assert after == record


def test_a_run_that_breaks_off_leaves_no_record(paths):
    unit = unit_of(paths)
    make(unit)
    left = []
    with pytest.raises(OSError, match="full"), unit.record_run(unit.identity):
        raise OSError(f"the disk is full beside {left.extend(unit.folder.glob('run.json'))}")
    assert not left
    assert not unit.is_up_to_date


def test_a_later_command_may_write_an_output_anew(paths):
    unit = unit_of(paths)
    make(unit)
    paths.submission_csv.write_bytes(b"of another decision")
    runs.renew_outputs(unit.folder, [paths.submission_csv])
    assert unit.is_up_to_date
    (unit.folder / "small.csv").unlink()
    runs.renew_outputs(unit.folder, [paths.submission_csv])
    assert not unit.is_up_to_date


def test_a_unit_is_as_current_as_its_parts(paths):
    part = unit_of(
        paths, folder=paths.fold_folder(1, "part", 0), outputs=(paths.fold_folder(1, "part", 0) / "small.csv",)
    )
    unit = unit_of(paths, substeps=(part,))
    make(unit)
    assert not unit.is_up_to_date
    make(part)
    assert unit.is_up_to_date


def test_each_input_counts(paths):
    unit = unit_of(paths)
    make(unit)
    for path in unit.inputs:
        before = path.read_bytes()
        path.write_bytes(b"9" + before[1:])
        assert not unit.is_up_to_date, path
        path.write_bytes(before)
        assert unit.is_up_to_date
    one, other = unit.inputs[2:4]
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    assert not unit.is_up_to_date  # of one name, and not to be taken for each other


@pytest.mark.parametrize("what", ["home", "data", "recipe"])
def test_other_names_of_folders_make_nothing_stale(paths, home, monkeypatch, tmp_path, what):
    make(unit_of(paths))
    if what == "home":
        home.rename(tmp_path / "moved")
        monkeypatch.setenv("CXR_HOME", str(tmp_path / "moved"))
        moved = paths
    elif what == "data":
        paths.data_folder.rename(tmp_path / "renamed")
        moved = Paths(tmp_path / "renamed", "recipe", 64)
        paths.artifacts_folder.rename(moved.artifacts_folder)
    else:
        moved = Paths(paths.data_folder, "mine", 64)
        paths.run_folder.rename(moved.run_folder)
    assert unit_of(moved).is_up_to_date
    assert not any(word in str(unit_of(moved).identity) for word in (str(tmp_path), "renamed", "mine", "xray"))


def test_a_copy_of_everything_is_up_to_date(paths, home, monkeypatch, tmp_path):
    make(unit_of(paths))
    shutil.copytree(home, tmp_path / "copy", copy_function=shutil.copyfile)  # with other times
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "copy"))
    assert unit_of(Paths(paths.data_folder, "recipe", 64)).is_up_to_date


def test_an_input_that_its_step_wrote_otherwise_is_named_before_any_work(paths):
    first = unit_of(paths)
    make(first)
    later = unit_of(paths, folder=paths.stage3_folder, inputs=(first.folder / "large.npy",), outputs=())
    assert make(later)
    for damage in (lambda path: path.write_bytes(LARGE[1:]), Path.unlink):
        damage(first.folder / "large.npy")
        message = r"large\.npy is missing, cut or changed.*run_all\.sh.*python -m cxr\.imaging\.rle"
        with pytest.raises(UsageError, match=message):
            make(later)
    make(first)
    assert not make(later)


def test_settings_without_effect_make_nothing_stale(paths):
    training = Training(epochs=1, batch=1, lr=0.1)
    unit = unit_of(paths, settings=Trained(training=training))
    make(unit)
    for change, current in {"workers": (0, True), "checkpoint_minutes": (9.0, True), "lr": (0.2, False)}.items():
        other = training.model_copy(update={change: current[0]})
        assert unit_of(paths, settings=Trained(training=other)).is_up_to_date is current[1]


def test_forced_it_is_never_current(paths, monkeypatch):
    unit = unit_of(paths)
    make(unit)
    monkeypatch.setenv("FORCE", "1")
    assert runs.matches_identity(unit.folder, unit.identity)
    assert not unit.is_up_to_date


def test_a_large_file_is_read_once_and_noted_in_the_home(paths, home, monkeypatch):
    path = paths.data_folder / "large.npy"
    write(path, LARGE)
    first = digests.digest_file(path)
    assert home in digests.digest_note_path(path).parents
    assert sorted(file.name for file in paths.data_folder.iterdir()) == ["a", "b", "large.npy"]
    monkeypatch.setattr(digests, "_compute_digest", lambda path: "read again")
    assert digests.digest_file(path) == first
    path.write_bytes(LARGE + b"1")
    assert digests.digest_file(path) == "read again"


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"bytes": 1048576'])
def test_a_damaged_note_is_written_anew(paths, damage):
    path = paths.prepared_folder / "pixels.npy"
    first = digests.digest_file(path)
    digests.digest_note_path(path).write_bytes(damage)
    assert digests.digest_file(path) == first
    assert read_json(digests.digest_note_path(path))["sha256"] == first


def test_nowhere_to_note_a_digest(tmp_path, home):
    home.mkdir()
    (home / "artifacts").write_text("a file in the way")
    write(tmp_path / "large", LARGE)
    assert digests.digest_file(tmp_path / "large") == digests.digest_file(tmp_path / "large") != "absent"


def test_what_a_user_edited_is_kept_beside_when_it_is_made_anew(tmp_path):
    made, edited = tmp_path / "made.json", tmp_path / "decision.json"
    identity = runs.Identity({}, {}, {})
    for text in ("1", "2"):
        assert runs.keep_edited_outputs(tmp_path, [edited]) == (
            [] if text == "1" else [tmp_path / "decision.before.json"]
        )
        with runs.record_run(tmp_path, identity, outputs=[made], editable_outputs=[edited]):
            made.write_text("{}")
            edited.write_text('{"gate": 1}')
        assert runs.keep_edited_outputs(tmp_path, [edited]) == []
        edited.write_text('{"gate": 2}')
    assert (tmp_path / "decision.before.json").read_text() == '{"gate": 2}'
