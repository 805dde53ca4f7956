"""Units as processes: one after the other, or as many at once as there are GPUs."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cxr.paths import ROOT, Paths
from cxr.plan import Unit
from pipeline.stages import feeds, to_run

GRACE = 10.0  # seconds that a process has to end by itself before it is killed
SIGNALLED_TO_DIE = 1  # Linux: prctl(PR_SET_PDEATHSIG)


class Failed(SystemExit):
    """A process ended badly; carries the exit code to pass on."""


@dataclass
class Job:
    """A unit under way, on a GPU of its own where there are several."""

    unit: Unit
    process: subprocess.Popen
    gpu: str | None


class Jobs:
    """Runs the units of a stage; `later` are those of the stages after it, for the time left of the whole run."""

    def __init__(self, units: list[Unit], later: list[Unit], paths: Paths, gpus: list[str]) -> None:
        self.waiting, self.later, self.paths = list(units), later, paths
        self.slots: list[str | None] = list(gpus) if len(gpus) > 1 else [None]
        self.together = len(self.slots)
        self.running: list[Job] = []

    def run(self) -> None:
        """Run them all; the first that fails ends those beside it, and its exit code is passed on."""
        try:
            while self.waiting or self.running:
                while self.slots and (unit := self._next()):
                    self._start(unit)
                self._wait()
        finally:
            end([job.process for job in self.running])

    def _next(self) -> Unit | None:
        """The first unit that waits for none of the unfinished ones before it."""
        before = [job.unit for job in self.running]
        for unit in self.waiting:
            if not any(feeds(other, unit, self.paths) for other in before):
                return unit
            before.append(unit)
        return None

    def _start(self, unit: Unit) -> None:
        """Up to date or not is asked only now: the units before this one have written its inputs."""
        self.waiting.remove(unit)
        if unit.current:
            print(f"{unit.name}: up to date", flush=True)
            return
        gpu = self.slots.pop(0)
        environment = self._share_of_time(unit) | (_own_gpu(gpu, self.together) if gpu is not None else {})
        self.running.append(Job(unit, start(unit.command, environment), gpu))

    def _share_of_time(self, unit: Unit) -> dict[str, str]:
        """CXR_RUN_WORK: the work from this unit to the end of the run, in units of its own."""
        if not unit.work:
            return {}
        ahead = to_run([unit, *self.waiting, *self.later], self.paths)
        after = sum(other.work for other in ahead if other is not unit) / self.together
        return {"CXR_RUN_WORK": f"{1 + after / unit.work:.4f}"}

    def _wait(self) -> None:
        """Until a process has ended."""
        while self.running:
            for job in self.running:
                if job.process.poll() is not None:
                    self.running.remove(job)
                    self.slots.append(job.gpu)
                    check(job.process, job.unit.name, job.unit.command)
                    return
            time.sleep(0.05)


def _own_gpu(gpu: str, together: int) -> dict[str, str]:
    """One GPU, a fair share of the cores for loading, and plain log lines: several units write at once."""
    workers = os.environ.get("CXR_WORKERS") or str(max(1, min(8, (os.cpu_count() or 1) // 2 // together)))
    return {"CUDA_VISIBLE_DEVICES": gpu, "CXR_WORKERS": workers, "CXR_PLAIN": "1"}


def start(command: tuple[str, ...], environment: dict[str, str] | None = None) -> subprocess.Popen:
    """Start `python -m command` in the project's folder; its output goes where ours goes."""
    return subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL, preexec_fn=die_with_parent,
    )  # fmt: skip


def call(name: str, command: tuple[str, ...], fine: tuple[int, ...] = (0,)) -> None:
    """Run `python -m command` to its end; any exit code but those that are `fine` ends us too."""
    process = start(command)
    try:
        process.wait()
    finally:
        end([process])
    if process.returncode not in fine:
        check(process, name, command)


def check(process: subprocess.Popen, name: str, command: tuple[str, ...]) -> None:
    """Where a process ended badly: say which, and how to run it alone; end with its exit code (1 if it was killed)."""
    code = process.returncode
    if code == 0:
        return
    killed = code < 0
    reason = f"was killed by {signal.Signals(-code).name}" if killed else f"ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    print(f"error: {name} {reason}{hint}; this one alone runs again with:\n  {by_hand(command)}", file=sys.stderr)
    raise Failed(1 if killed else code)


def by_hand(command: tuple[str, ...]) -> str:
    """The shell command of a unit."""
    keys = ("RECIPE", "DATA", "WEIGHTS", "SMOKE", "CXR_HOME")
    settings = [f"{key}={os.environ[key]}" for key in keys if os.environ.get(key)]
    python = os.path.relpath(sys.executable, ROOT) if Path(sys.executable).is_relative_to(ROOT) else sys.executable
    return f"cd {shlex.quote(str(ROOT))} && " + shlex.join(["env", *settings, python, "-m", *command])


def end(processes: list[subprocess.Popen]) -> None:
    """End what still runs; what a unit writes is whole at any time, so nothing is lost but the last minutes."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def die_with_parent() -> None:
    """Linux: ask to be terminated when the process that started this one is gone, even if it was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SIGNALLED_TO_DIE, signal.SIGTERM)
