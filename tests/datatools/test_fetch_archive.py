"""Unpacking: hostile and damaged archives, archives in archives, and going on after a kill."""

import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.errors import DataError, UsageError
from cxr.paths import ROOT
from datatools.fetch import archive
from datatools.fetch.data_folder import WORK_FOLDER

ENCRYPTED = bytes.fromhex(  # one stored entry, train.csv, with its bit 0 set
    "504b03040a00010000000000210000000000000000000000000009000000747261696e2e637376"
    "504b01021e030a00010000000000210000000000000000000000000009000000000000000000000000000000000074"
    "7261696e2e637376504b0506000000000100010037000000270000000000"
)


@pytest.fixture
def into(tmp_path) -> Path:
    (tmp_path / "data" / WORK_FOLDER).mkdir(parents=True)
    return tmp_path / "data"


@pytest.fixture
def zipped(tmp_path) -> Callable[..., Path]:
    """A function that writes an archive of (name or ZipInfo, content)."""

    def write(*entries: tuple[str | zipfile.ZipInfo, bytes], name: str = "x.zip") -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as found:
            for entry, content in entries:
                found.writestr(entry, content)
        return tmp_path / name

    return write


def unpack(path: Path, into: Path) -> dict[str, bytes]:
    """Unpack, and read back all that lies in the folder's parent but the archive itself."""
    archive.unpack_archive(path, into, path.name)
    return lying(into)


def lying(into: Path) -> dict[str, bytes]:
    files = (path for path in into.parent.rglob("*") if path.is_file() and path.suffix != ".zip")
    return {path.relative_to(into.parent).as_posix(): path.read_bytes() for path in files}


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


GOOD = ("good.dcm", b"good")


@pytest.mark.parametrize(("entry", "why"), [
    ("../evil.dcm", "leads out"), ("a/../../evil.dcm", "leads out"), ("/evil.csv", "is an absolute"),
    ("..\\evil.dcm", "leads out"), ("C:\\evil.dcm", "a drive letter"), ("c:evil.dcm", "a drive letter"),
    ("\\\\host\\evil.dcm", "is an absolute"), ("a\nb.dcm", "a control character"), (".//../evil.csv", "leads out"),
    ("//evil.dcm", "is an absolute"), ("./C:/evil.dcm", "a drive letter"), ("../../i.zip", "leads out"),
    (special("link.dcm", stat.S_IFLNK | 0o777), "is a symbolic link"),
    (special("pipe.dcm", stat.S_IFIFO | 0o600), "is neither a file nor a folder"),
])  # fmt: skip
def test_an_entry_that_could_do_harm_refuses_the_whole_archive(zipped, into, entry, why):
    with pytest.raises(DataError, match=rf"x\.zip is refused, nothing was written: entry .*{why}"):
        unpack(zipped(GOOD, (entry, b"1")), into)
    assert lying(into) == {}


@pytest.mark.parametrize("names", [
    ("a/x.dcm", "A/X.dcm"), ("é.dcm", "e\u0301.dcm"), ("x.dcm", "x.dcm"), ("a.dcm", "a.dcm/b.dcm"),
    ("a.dcm", "./A.dcm"), ("a/x.dcm", "a//x.dcm"), ("a/x.dcm", "a\\x.dcm"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_that_some_file_systems_take_for_one_are_refused(zipped, into, names):
    with pytest.raises(DataError, match="refused, nothing was written"):
        unpack(zipped(*((name, b"1") for name in names)), into)
    assert lying(into) == {}


def test_an_encrypted_entry_is_refused_by_name(tmp_path, into):
    (tmp_path / "x.zip").write_bytes(ENCRYPTED)
    with pytest.raises(DataError, match=r"entry 'train\.csv' is encrypted"):
        unpack(tmp_path / "x.zip", into)


def test_a_bomb_is_refused_and_a_well_packed_table_is_not(zipped, into, monkeypatch):
    path = zipped(("small.csv", b"1"), ("bomb.dcm", bytes(3_000_000)))
    assert len(unpack(path, into)) == 2
    monkeypatch.setattr(archive, "HARMLESS_BYTES", 2_000_000)
    with pytest.raises(DataError, match=r"would become 3000001, more than 100 times as many; .*'bomb\.dcm'"):
        unpack(path, into)


def test_only_deflate_is_read(tmp_path, into):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_BZIP2) as found:
        found.writestr("a.csv", b"1")
    with pytest.raises(DataError, match=r"'a\.csv' is packed by method 12"):
        unpack(tmp_path / "x.zip", into)


def test_an_entry_longer_than_it_says_is_damage(zipped, into):
    path = zipped(("a.csv", b"1" * 1000))
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match="no whole zip"):
        unpack(path, into)
    assert "data/a.csv" not in lying(into)


@pytest.mark.parametrize("cut", [slice(0, 60), slice(0, -30), slice(0, 0)])
def test_a_cut_archive_is_damage(zipped, into, cut):
    path = zipped(("a.csv", os.urandom(200)))
    path.write_bytes(path.read_bytes()[cut])
    with pytest.raises(DataError, match=r"x\.zip is no whole zip archive .*fetch it again"):
        unpack(path, into)


def test_only_dicom_and_tables_that_are_not_hidden_are_taken(zipped, into, capfd):
    names = ("a/B.DCM", "t.csv", "README.md", "p.png", "__MACOSX/a/._B.dcm", ".fetch/x.dcm", ".h/x.zip")
    assert set(unpack(zipped(*((name, b"1") for name in names)), into)) == {"data/a/B.DCM", "data/t.csv"}
    assert "5 files that are neither DICOM nor CSV" in capfd.readouterr().out


@pytest.mark.parametrize(("entry", "there"), [
    ("/", None), ("./", None), ("siim/Icon\r", None), ("SIIM/", None), ("siim/", None), ("good.dcm/", None),
    ("..", None), (special("README", stat.S_IFLNK | 0o777), None), ("/etc/motd", None), ("C:\\Thumbs.db", None),
    ("./siim/a.dcm", "siim/a.dcm"), ("siim//a.dcm", "siim/a.dcm"), (".\\Siim\\.\\a.csv", "Siim/a.csv"),
])  # fmt: skip
def test_what_common_tools_pack_beside_harms_nobody(zipped, into, entry, there):
    assert unpack(zipped((entry, b""), GOOD, ("siim/b.dcm", b"2")), into) == {
        "data/good.dcm": b"good", "data/siim/b.dcm": b"2"} | ({f"data/{there}": b""} if there else {})  # fmt: skip


def test_windows_separators_are_folders(zipped, into):
    assert unpack(zipped(("siim\\a.dcm", b"1")), into) == {"data/siim/a.dcm": b"1"}


def test_what_is_there_stays_untouched_and_what_differs_stops_all(zipped, into):
    path = zipped(GOOD, ("b.dcm", b"new"))
    (into / "good.dcm").write_bytes(b"good")
    before = (into / "good.dcm").stat()
    assert set(unpack(path, into)) == {"data/good.dcm", "data/b.dcm"}
    assert (into / "good.dcm").stat() == before
    (into / "b.dcm").write_bytes(b"old")
    (into / "good.dcm").unlink()
    with pytest.raises(UsageError, match=r"1 files in .*: b\.dcm; nothing was changed"):
        unpack(path, into)
    assert lying(into) == {"data/b.dcm": b"old"}


@pytest.mark.parametrize("target", ["..", "nowhere"])
def test_a_link_in_the_folder_leads_no_one_out(zipped, into, target):
    (into / "a").symlink_to(into / target, target_is_directory=True)
    (into / "b.dcm").symlink_to(into.parent / "nowhere.dcm")
    for entry in ("a/evil.dcm",) if target == ".." else ("b.dcm",):
        with pytest.raises(UsageError):
            unpack(zipped((entry, b"1")), into)
    assert lying(into) == {}


def test_archives_in_an_archive_go_into_folders_of_their_names(zipped, into):
    inner = zipped(("deep/i.dcm", b"1"), name="inner.zip").read_bytes()
    expected = {"data/t.csv": b"2", "data/sub/stage_2_images/deep/i.dcm": b"1"}
    outer = zipped(("t.csv", b"2"), ("sub/stage_2_images.zip", inner))
    (into / WORK_FOLDER / "inner.zip").write_bytes(b"of a killed run")
    assert unpack(outer, into) == expected
    assert unpack(outer, into) == expected
    assert not list(into.rglob("*.zip"))
    with pytest.raises(UsageError, match="an archive in an archive in an archive"):
        unpack(zipped(("again.zip", outer.read_bytes()), name="y.zip"), into)


def test_an_inner_archive_is_held_to_the_same_rules(zipped, into):
    inner = zipped(("../evil.dcm", b"1"), name="inner.zip").read_bytes()
    with pytest.raises(DataError, match=r"x\.zip/i\.zip is refused"):
        unpack(zipped(("i.zip", inner)), into)


def test_a_killed_extraction_goes_on(zipped, into):
    files = {f"train/{number}.dcm": os.urandom(20_000) for number in range(3000)}
    path = zipped(*files.items(), ("train-rle.csv", b"ImageId,EncodedPixels\n1,-1\n"))
    call = [sys.executable, "-m", "datatools.fetch", str(path), "--into", str(into)]
    process = subprocess.Popen(call, cwd=ROOT, stderr=subprocess.DEVNULL)
    while not (into / "train").is_dir() or len(os.listdir(into / "train")) < 20:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = {file: file.stat().st_mtime_ns for file in into.rglob("*.dcm")}
    assert 20 <= len(kept) < len(files)
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {name: content for name, content in lying(into).items() if name.endswith(".dcm")} == {
        f"data/{name}": content for name, content in files.items()
    }
    assert all(file.stat().st_mtime_ns == time_ns for file, time_ns in kept.items())
    assert f"{len(kept)} were there" in done.stderr
