"""What the operating system refuses ends a command with one line; a bug shows where it is."""

import errno
import os
import resource
import subprocess
import sys
import tempfile
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr import tables
from cxr.errors import DataError, run_main
from cxr.files import reserve_disk_space, write_atomically, write_text
from cxr.paths import ROOT


@pytest.fixture
def end(capsys):
    """Run a command to its bad end: exit code and the one line it says."""

    def ended(main) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped:
            run_main(main)
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert said.endswith("\n")
        return stopped.value.code, said

    return ended


@pytest.fixture
def no_room():
    """A limit of 4 KB for a file, which the system refuses to go beyond as it does on a full disk (EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def raised(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(("number", "words"), [
    (errno.ENOSPC, "make room"), (errno.EDQUOT, "make room"), (errno.EACCES, "allow it"),
    (errno.EROFS, "allow it"), (errno.ENAMETOOLONG, "shorten the path"), (errno.EMFILE, "ulimit -n"),
    (errno.ENOMEM, "CXR_WORKERS=0"), (errno.EAGAIN, "CXR_WORKERS=0"), (errno.ESTALE, "network drive"),
    (errno.ENOENT, "removed"), (errno.ENOTDIR, "move it away"), (errno.ELOOP, "circle"),
    (errno.EFBIG, "ulimit -f"), (errno.ENOLCK, "locks"), (errno.EDOM, "tests/cxr/test_errors.py, line"),
])  # fmt: skip
def test_what_the_system_refuses_is_one_line_with_what_to_do(end, number, words):
    code, said = end(raised(OSError(number, os.strerror(number), "/some/file")))
    assert code == 2
    assert said.startswith(f"error: /some/file: {os.strerror(number)}; ")
    assert words in said


@pytest.mark.parametrize("name", ["CXR_HOME", "DATA", "TMPDIR"])
def test_what_may_lie_elsewhere_names_the_variable(end, monkeypatch, tmp_path, name):
    folders = {key: tmp_path / key for key in ("CXR_HOME", "DATA", "TMPDIR")}
    monkeypatch.setattr(tempfile, "tempdir", str(folders["TMPDIR"]))
    for key in ("CXR_HOME", "DATA"):
        monkeypatch.setenv(key, str(folders[key]))
    said = end(raised(PermissionError(errno.EACCES, "Permission denied", str(folders[name] / "file"))))[1]
    assert said.endswith(f"; allow it, or name another place: {name}=<folder>\n")


def test_a_rename_names_the_file_that_was_meant(end):
    error = OSError(errno.EACCES, "Permission denied", "/.hidden", None, "/some/file")
    assert "error: /some/file: Permission denied; " in end(raised(error))[1]


def test_what_a_library_says_of_a_damaged_file_is_one_line(end):
    code, said = end(raised(OSError("image file is truncated\n(3 bytes\nnot processed)" + "x" * 1000)))
    assert code == 3
    assert "image file is truncated (3 bytes not processed)" in said
    assert "tests/cxr/test_errors.py, line" in said
    assert len(said) < 500


def test_an_error_of_a_loader_process_is_one_line(end):
    """PyTorch raises it again with the traceback in its words, and without its number."""
    text = "Caught {0} in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File\n{1}"
    words = text.format("PermissionError", "PermissionError: [Errno 13] Permission denied: '/data/pixels.npy'\n")
    code, said = end(raised(PermissionError(words)))
    assert code == 2
    assert said.startswith("error: [Errno 13] Permission denied: '/data/pixels.npy'; allow it")
    words = text.format("DataError", "cxr.errors.DataError: boxes.csv, row 3: no box\n")
    assert end(raised(DataError(words))) == (3, "error: boxes.csv, row 3: no box\n")


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 12 GiB"), BrokenProcessPool("terminated abruptly")])
def test_want_of_memory_is_one_line(end, error):
    code, said = end(raised(error))
    assert code == 2
    assert "CXR_WORKERS=0" in said


def test_no_folder_for_temporary_files(end, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    assert "TMPDIR=<folder>" in end(tempfile.mkdtemp)[1]


BUGS = (TypeError("x"), KeyError("x"), AssertionError("x"), RuntimeError("x"), UnicodeEncodeError("a", "x", 0, 1, "y"))


@pytest.mark.parametrize("error", BUGS, ids=repr)
def test_a_bug_is_not_caught(error):
    with pytest.raises(type(error)) as caught:
        run_main(raised(error))
    assert caught.value is error


# --- writing ------------------------------------------------------------------------------------


def test_a_file_without_room_is_named_and_leaves_nothing(end, no_room, tmp_path):
    write_text(tmp_path / "table.csv", "old")
    code, said = end(lambda: write_text(tmp_path / "table.csv", "x" * 10000))
    assert code == 2
    assert said.startswith(f"error: {tmp_path / 'table.csv'}: File too large; ")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == "old"


def write_map(path: Path) -> None:
    with write_atomically(path) as temporary:
        np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(1000,))
        reserve_disk_space(temporary)


def test_a_map_without_room_is_an_error_and_not_the_death_of_the_process(end, monkeypatch, tmp_path):
    def full(_file: int, _start: int, length: int) -> None:
        assert length == 1000 + 128  # the header
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    code, said = end(lambda: write_map(tmp_path / "maps.npy"))
    assert (code, said[: said.index(";")]) == (2, f"error: {tmp_path / 'maps.npy'}: No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("home", ["/proc/nowhere", "file", "file/in it", "x" * 300])
def test_a_home_that_cannot_be_written(end, tmp_path, monkeypatch, home):
    """By root neither, who may write anywhere."""
    (tmp_path / "file").touch()
    code, said = end(lambda: write_text(tmp_path / home / "artifacts" / "run.json", "x"))
    assert code == 2
    assert str(tmp_path / home) in said


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name")
def test_a_table_lies_in_a_folder_of_any_name(tmp_path):
    """Not in UTF-8, or read in a locale of another encoding: pyarrow would look for another file."""
    path, table = tmp_path / "R\udcf6ntgen" / "table.parquet", pd.DataFrame({"a": [1, 2]})
    tables.write_table(table, path, {"a": "int"})
    assert tables.read_table(path, {"a": "int"}, "a test").equals(table)


# --- printing -----------------------------------------------------------------------------------

CODE = "import sys; from cxr.errors import run_main, UsageError\ndef main():\n    {}\nrun_main(main)"


def printed(code: str, redirect: str = "", **environment: str) -> subprocess.CompletedProcess:
    command = ["bash", "-c", f'"$0" -c "$1" {redirect}', sys.executable, CODE.format(code)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, check=False)


@pytest.mark.parametrize(("encoding", "expected"), [
    ("latin-1", "Häuser <- 0.8 (0.7-0.9) × \\u672a"), ("ascii", "H\\xe4user <- 0.8 (0.7-0.9) x \\u672a"),
    ("utf-8", "Häuser ← 0.8 (0.7–0.9) × 未"),
])  # fmt: skip
def test_a_locale_that_lacks_a_character_prints_its_likeness(encoding, expected):
    text = "'Häuser ← 0.8 (0.7–0.9) × 未'"
    done = printed(f"print({text}); raise UsageError({text})", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 2
    assert done.stdout.decode(encoding) == f"{expected}\n"
    assert done.stderr.decode(encoding) == f"error: {expected}\n"


def test_the_name_of_a_file_in_another_encoding_is_printed_as_it_is():
    done = printed(r"print('R\udcf6ntgen')", PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stdout) == (0, b"R\xf6ntgen\n")


def test_a_name_that_no_file_can_hold_is_one_line():
    done = printed(r"'<p>in /data/R\udcf6/x.csv: 1</p>'.encode()")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: /data/R\xf6/x.csv: the name is not in UTF-8; rename that file or folder\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_where_nobody_reads_on_it_ends_without_a_word(unbuffered):
    many = "[print(number) for number in range(100000)]"
    done = printed(many, "| head -1; exit ${PIPESTATUS[0]}", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stdout, done.stderr) == (141, b"0\n", b"")


def test_a_pipe_of_another_process_is_not_taken_for_it(end):
    assert "Broken pipe" in end(raised(BrokenPipeError(errno.EPIPE, "Broken pipe")))[1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize(("unbuffered", "where"), [("", b"stdout: "), ("1", b"[Errno 28] ")])
def test_a_log_on_a_full_disk(unbuffered, where):
    done = printed("print('hello')", "> /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: " + where + b"No space left on device; make room there")
    assert done.stderr.count(b"\n") == 1
    assert printed("print('hello')", "> /dev/full 2>&1", PYTHONUNBUFFERED=unbuffered).returncode == 2


def test_closed_streams_are_no_reason_to_fail():
    code = "print('hello'); from cxr.progress import ProgressLine; ProgressLine('x').print_message('y')"
    done = printed(code, ">&- 2>&-")
    assert done.returncode == 0
