"""What is left where prepare crashes or is killed, and that it runs again."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cxr import processes
from cxr.errors import DataError
from cxr.paths import ROOT, Paths
from tests.prepare.prepare_runs import SIZE, command, content, edit, run


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
