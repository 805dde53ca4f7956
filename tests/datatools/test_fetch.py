"""Fetching: through Kaggle's tool, from folders, and what is said of what was found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cxr.errors import DataError, UsageError
from cxr.paths import ROOT
from datatools.fetch import __main__ as command
from datatools.fetch import counts, data_folder, kaggle_tool
from tests.datatools.fetch_files import FILES, SECRET, lying, packed


@pytest.fixture
def into(tmp_path) -> Path:
    return tmp_path / "my data"


FAKE = """#!{python}
import os, pathlib, shutil, sys
folder = pathlib.Path(sys.argv[sys.argv.index("-p") + 1])
(folder.parent / "called.txt").write_text(" ".join(sys.argv[1:5]))
if "FAIL" in os.environ:
    sys.exit("403 - Forbidden - https://h/x?sig=abc key " + os.environ["KAGGLE_KEY"])
shutil.copy(os.environ["ARCHIVE"], folder / "pneumo.zip")
"""


@pytest.fixture
def tool(tmp_path, monkeypatch) -> Path:
    """A kaggle command that brings an archive."""
    path = tmp_path / "a bin" / "kaggle"
    path.parent.mkdir()
    path.write_text(FAKE.format(python=sys.executable))
    path.chmod(0o755)
    (tmp_path / "archive").write_bytes(packed(FILES))
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    return path


@pytest.mark.parametrize(("source", "arguments"), [
    ("kaggle:some-one/pneumo", "datasets download -d some-one/pneumo"),
    ("kaggle:competitions/siim-acr-pneumothorax-segmentation",
     "competitions download -c siim-acr-pneumothorax-segmentation"),
])  # fmt: skip
def test_kaggle_through_its_tool(tool, into, capfd, source, arguments):
    command.fetch_source(source, into)
    assert lying(into) == FILES
    assert (into / ".fetch" / "called.txt").read_text() == arguments
    tool.unlink()
    command.fetch_source(source, into)  # up to date, so the tool is not asked
    assert "up to date" in capfd.readouterr().out


def test_a_damaged_download_is_removed_so_that_the_next_run_fetches_it(tool, tmp_path, into):
    (tmp_path / "archive").write_bytes(packed(FILES)[:-100])
    with pytest.raises(DataError, match=r"pneumo\.zip is no whole zip"):
        command.fetch_source("kaggle:o/d", into)
    (tmp_path / "archive").write_bytes(packed(FILES))
    command.fetch_source("kaggle:o/d", into)
    assert lying(into) == FILES


def test_where_kaggle_fails_its_words_and_what_to_do_but_no_secret(tool, into, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(UsageError, match=r"code 1: 403 - Forbidden .*accept the competition's rules") as caught:
        command.fetch_source("kaggle:o/d", into)
    assert SECRET not in str(caught.value)
    assert "sig" not in str(caught.value)


def test_without_the_tool_it_says_how_to_get_it_and_a_token(into, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match=r"pip install kaggle.*token.*KAGGLE_USERNAME"):
        command.fetch_source("kaggle:o/d", into)


@pytest.mark.parametrize("source", ["", "name", "-p/x", "a/b/c", "a/--force", "../x"])
def test_a_wrong_kaggle_name_is_no_argument_of_the_tool(source):
    with pytest.raises(UsageError, match="expected kaggle:<owner>/<dataset>"):
        kaggle_tool.build_command(source)


@pytest.mark.parametrize("link", [False, True])
def test_a_folder_is_copied_or_linked_and_a_second_time_left_alone(kaggle_folder, into, capfd, link):
    source = kaggle_folder()
    (source / "notes.txt").write_text("mine")
    (source / "circle").symlink_to(source)
    for _ in range(2):
        command.fetch_source(str(source), into, link)
    expected = {name: content for name, content in lying(source).items() if name.endswith((".dcm", ".csv"))}
    assert lying(into) == expected
    assert (into / "train-rle.csv").is_symlink() == link
    said = "".join(capfd.readouterr())
    assert "16 with their DICOM" in said
    assert "0 files linked, 23 were there" in said if link else "0 files written, 23 were there" in said


def test_a_file_of_the_users_is_never_written_over(kaggle_folder, into):
    source = kaggle_folder()
    into.mkdir()
    (into / "train-rle.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"1 files in .*my data differ .*: train-rle\.csv; nothing was changed"):
        command.fetch_source(str(source), into)
    assert lying(into) == {"train-rle.csv": b"mine"}


def test_pipes_and_links_to_nothing_are_passed_over(kaggle_folder, into, capfd):
    data = kaggle_folder()
    os.mkfifo(data / "pipe.dcm")
    (data / "lost.dcm").symlink_to(data / "nowhere")
    command.fetch_source(str(data), into)
    assert capfd.readouterr().out.count("passed over: ") == 2
    assert not (into / "pipe.dcm").exists()


def test_folders_in_one_another_are_refused(kaggle_folder):
    source = kaggle_folder()
    with pytest.raises(UsageError, match="lie in one another"):
        command.fetch_source(str(source), source / "inner")


def test_too_little_room_is_told_before_anything_is_written(kaggle_folder, into, monkeypatch):
    monkeypatch.setattr(data_folder.shutil, "disk_usage", lambda _: data_folder.shutil._ntuple_diskusage(9, 9, 9))
    with pytest.raises(UsageError, match=r"GB are needed in .*0\.00 GB are free"):
        command.fetch_source(str(kaggle_folder()), into)
    assert lying(into) == {}


def test_two_at_once(kaggle_folder, into):
    with command.runs.lock_folder(_made(into / ".fetch")):
        done = _run(str(kaggle_folder()), "--into", str(into))
    assert done.returncode == 2
    assert "another process" in done.stderr


def test_from_the_command_line_with_data_from_the_environment(kaggle_folder, into):
    done = _run(str(kaggle_folder()), DATA=str(into))
    assert (done.returncode, len(lying(into))) == (0, 23)
    assert _run("nowhere.zip", DATA=str(into)).returncode == 2
    assert _run("--link", "kaggle:o/d", DATA=str(into)).returncode == 2


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    call = [sys.executable, "-m", "datatools.fetch", *arguments]
    return subprocess.run(call, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)


def found(**changes) -> counts.FolderCounts:
    later = {
        "dicoms": 15_294,
        "rows": 12_954,
        "images": 12_047,
        "labelled_dicoms": 12_047,
        "images_to_predict": 3_205,
        "test_dicoms": 3_205,
    }
    return counts.FolderCounts(**later | {"unlabelled_dicoms": 42, "has_patients": True} | changes)


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, []),
    ({"rows": 12_953}, ["warning: mask rows: 12,954 are known, 12,953 are here"]),
    ({"unlabelled_dicoms": 0}, ["warning: DICOM images without a row: 42 are known, 0 are here"]),
    ({"labelled_dicoms": 12_040}, ["missing: the DICOM files of 7 images with mask rows"]),
    ({"test_dicoms": 5}, ["missing: the DICOM files of 3,200 images to predict"]),
    ({"images_to_predict": 3, "test_dicoms": 3}, ["warning: the known tests have 3,205 or 1,377 images"]),
    ({"images_to_predict": 0, "test_dicoms": 0},
     ["missing: a sample submission; test images are recognised by their folder's name"]),
    ({"has_patients": False}, ["missing: patients.csv; data/README.md tells why to bring one"]),
])  # fmt: skip
def test_what_is_missing_of_the_known_data_is_said(changes, expected):
    assert counts.list_remarks(found(**changes)) == ["the table is stage 2's release's", *expected]


def test_other_data_is_told_from_siim_acr():
    assert counts.list_remarks(found(images=10_675, labelled_dicoms=10_675))[0] == "the table is stage 1's release's"
    assert counts.list_remarks(found(images=5, labelled_dicoms=5))[0].startswith(
        "warning: the SIIM-ACR data label 12,047 images"
    )
