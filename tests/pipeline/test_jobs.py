"""Steps as processes: order, exit codes, GPUs, remaining work, no process left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cxr import runs
from cxr.errors import UsageError
from cxr.files import read_json
from cxr.paths import ROOT
from pipeline import devices, jobs
from pipeline.stages import feeds_into, find_outdated_steps


def read_process_record(step) -> dict:
    return read_json(step.folder / "process.json")


def test_a_second_run_does_nothing(toy, capsys):
    steps = [toy("a"), toy("b")]
    jobs.JobRunner(steps, [], []).run_all()
    first = [read_process_record(step) for step in steps]
    capsys.readouterr()
    jobs.JobRunner(steps, [], []).run_all()
    assert capsys.readouterr().out == "a: up to date\nb: up to date\n"
    assert [read_process_record(step) for step in steps] == first


@pytest.mark.parametrize(("what", "code"), [("exit2", 2), ("exit3", 3), ("exit1", 1), ("die", 1)])
def test_a_failure_passes_its_exit_code_on_and_says_how_to_go_on(toy, capsys, what, code):
    steps = [toy("good"), toy("bad one", what), toy("never")]
    with pytest.raises(SystemExit) as stopped:
        jobs.JobRunner(steps, [], []).run_all()
    assert stopped.value.code == code
    message = capsys.readouterr().err
    assert "bad one" in message
    assert "-m toy_step" in message
    assert not steps[2].folder.exists()


def test_a_call_goes_on_after_an_exit_code_that_is_fine(toy):
    step = toy("warns", "exit4")
    jobs.run_module("warns", step.command, accepted_codes=(0, 4))
    with pytest.raises(SystemExit) as stopped:
        jobs.run_module("warns", step.command)
    assert stopped.value.code == 4


def test_the_hint_holds_the_run_and_quotes(monkeypatch):
    monkeypatch.setenv("RECIPE", "a b.yaml")
    assert "'RECIPE=a b.yaml'" in jobs.format_shell_command(("stage1_classify.train", "--fold", "0"))


def test_each_gpu_has_one_step_at_a_time(toy):
    steps = [toy(f"step{number}", ".4") for number in range(4)]
    jobs.JobRunner(steps, [], ["0", "1"]).run_all()
    records = [read_process_record(step) for step in steps]
    assert [record["CUDA_VISIBLE_DEVICES"] for record in records[:2]] == ["0", "1"]
    assert all(record["CXR_PLAIN"] == "1" and int(record["CXR_WORKERS"]) >= 1 for record in records)
    assert records[0]["start"] < records[1]["end"]
    assert records[1]["start"] < records[0]["end"]
    for gpu in "01":
        spans = sorted((record["start"], record["end"]) for record in records if record["CUDA_VISIBLE_DEVICES"] == gpu)
        assert len(spans) == 2
        assert spans[0][1] <= spans[1][0]


def test_one_gpu_is_left_as_it_is(toy):
    step = toy("only")
    jobs.JobRunner([step], [], ["0"]).run_all()
    assert read_process_record(step)["CUDA_VISIBLE_DEVICES"] is None


def test_a_step_waits_for_those_it_reads(toy):
    first = toy("first", "2")
    second = toy("second", "0", inputs=(first.folder / "out.txt",))
    third = toy("third", "0")
    jobs.JobRunner([first, second, third], [], ["0", "1"]).run_all()
    assert read_process_record(second)["start"] >= read_process_record(first)["end"]
    assert read_process_record(third)["start"] < read_process_record(first)["end"]


def test_a_failure_ends_the_steps_beside_it(toy):
    slow = toy("slow", "30")
    start = time.monotonic()
    with pytest.raises(SystemExit):
        jobs.JobRunner([slow, toy("bad", "exit3")], [], ["0", "1"]).run_all()
    assert time.monotonic() - start < 10
    assert not slow.is_up_to_date


def test_the_share_of_the_whole_run(toy):
    done, now, later = toy("done", work=50.0), toy("now", work=2.0), toy("later", work=6.0)
    done.folder.mkdir(parents=True)
    (done.folder / "run.json").write_text("{}")
    jobs.JobRunner([now], [done, later], []).run_all()
    assert float(read_process_record(now)["CXR_RUN_WORK"]) == pytest.approx(4.0)


def test_what_reads_from_a_stale_step_is_stale(toy):
    first = toy("first")
    second = toy("second", inputs=(first.folder / "out.txt",))
    second.folder.mkdir(parents=True)
    (second.folder / "run.json").write_text("{}")
    assert find_outdated_steps([first, second]) == [first, second]
    assert find_outdated_steps([second]) == []
    assert not feeds_into(second, first)


def test_ended_from_outside_it_leaves_no_process(toy):
    step = toy("long", "60")
    code = f"""
import signal, sys
from pathlib import Path
from pipeline import jobs
def stop(*_): raise KeyboardInterrupt
signal.signal(signal.SIGTERM, stop)
jobs.run_module("long", {step.command!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": _both()})
    child = _child_of(process.pid)
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    assert not _alive(child)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends children of a killed parent; others do not")
def test_killed_it_leaves_no_process(toy):
    step = toy("long", "60")
    code = f"from pipeline import jobs; jobs.run_module('long', {step.command!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": _both()})
    child = _child_of(process.pid)
    process.kill()
    process.wait(20)
    until = time.monotonic() + 10
    while _alive(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _alive(child)


def _both() -> str:
    return os.pathsep.join([os.environ["PYTHONPATH"], str(ROOT)])


def _child_of(parent: int) -> int:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for child in psutil.Process(parent).children():
            if "toy_step" in child.cmdline():
                return child.pid
        time.sleep(0.05)
    raise AssertionError("no child was started")


def _alive(number: int) -> bool:
    return psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE


def test_a_folder_is_held_by_one_process_and_set_free_by_its_death(tmp_path: Path):
    code = f"""
import os, sys, time
from pathlib import Path
from cxr import runs
with runs.lock_folder(Path({str(tmp_path)!r})):
    if os.fork() == 0:  # as a loader process does, it inherits what its parent has open
        time.sleep(30); os._exit(0)
    print("held", flush=True)
    time.sleep(30)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=f"another process .{holder.pid}."), runs.lock_folder(tmp_path):
            pass
        holder.kill()
        holder.wait(10)
        with runs.lock_folder(tmp_path):
            pass
    finally:
        os.killpg(holder.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, ["0", "1"]), ("1", ["1"]), ("", []), ("-1", []), ("0,-1,1", ["0"]), ("GPU-a, GPU-b", ["GPU-a", "GPU-b"])],
)
def test_gpus_are_those_that_cuda_would_see(monkeypatch, visible, expected):
    devices.list_gpus.cache_clear()
    monkeypatch.setattr(devices, "_list_installed_gpus", lambda: {"0": "Card", "1": "Card"})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list(devices.list_gpus()) == expected
    devices.list_gpus.cache_clear()
