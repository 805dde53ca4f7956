"""Processes where the system gives little: a long TMPDIR, no /dev/shm."""

import errno
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from cxr import processes
from cxr.paths import ROOT


@pytest.fixture(params=["Read-only file system", "less than 1024 KB are free"])
def refusal(request, monkeypatch) -> str:
    """A /dev/shm without semaphores, as it is in a container: read-only, or full."""

    def refuse(*_arguments) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    if request.param.startswith("Read"):
        monkeypatch.setattr(multiprocessing.get_context("fork"), "Lock", refuse, raising=False)
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000_000))
        monkeypatch.setattr(processes, "SHARED_MEMORY", Path(tempfile.gettempdir()))
    processes.can_start_processes.cache_clear()
    yield request.param
    processes.can_start_processes.cache_clear()


def test_without_semaphores_all_is_done_in_this_process(refusal, capsys):
    results = dict(processes.map_unordered(eval, ["__import__('os').getpid()", "1 + 1"], 2))
    assert results == {"__import__('os').getpid()": os.getpid(), "1 + 1": 2}
    assert processes.count_loaders(4) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"note: {processes.SHARED_MEMORY}: {refusal}; ")


def test_a_long_folder_for_temporary_files():
    """On clusters; a socket's path has at most 107 bytes, the one of the processes' server lies there."""
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / ("x" * 100)
        long.mkdir()
        command = [
            sys.executable,
            "-c",
            "from cxr.processes import map_unordered; print(sorted(map_unordered(abs, [-1, -2], 2)))",
        ]
        environment = os.environ | {"TMPDIR": str(long)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("[(-2, 2), (-1, 1)]\n", "")
