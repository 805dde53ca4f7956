"""Run steps as processes: one after the other, or as many at once as there are GPUs."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cxr.paths import ROOT
from cxr.step import Step
from pipeline.stages import feeds_into, find_outdated_steps

GRACE_SECONDS = 10.0  # a process has so long to end by itself before it is killed
PR_SET_PDEATHSIG = 1  # Linux: prctl(PR_SET_PDEATHSIG)


class ProcessFailure(SystemExit):
    """A process failed; carries the exit code to pass on."""


@dataclass
class Job:
    """A running step, on a GPU of its own where there are several."""

    step: Step
    process: subprocess.Popen
    gpu: str | None


class JobRunner:
    """Runs the steps of a stage.

    later_steps: those of the later stages, from which the remaining time of the whole run is estimated
    gpus: keys for CUDA_VISIBLE_DEVICES; with two or more, as many steps run at once
    """

    def __init__(self, steps: list[Step], later_steps: list[Step], gpus: list[str]) -> None:
        self.waiting_steps, self.later_steps = list(steps), later_steps
        self.free_gpus: list[str | None] = list(gpus) if len(gpus) > 1 else [None]
        self.parallel_count = len(self.free_gpus)
        self.running_jobs: list[Job] = []

    def run_all(self) -> None:
        """Run all steps; if one fails, end those that run beside it, and raise ProcessFailure with its exit code."""
        try:
            while self.waiting_steps or self.running_jobs:
                while self.free_gpus and (step := self._next_ready_step()):
                    self._start_step(step)
                self._wait_for_exit()
        finally:
            terminate_processes([job.process for job in self.running_jobs])

    def _next_ready_step(self) -> Step | None:
        """The first waiting step that needs no output of an unfinished one before it."""
        unfinished_steps = [job.step for job in self.running_jobs]
        for step in self.waiting_steps:
            if not any(feeds_into(earlier, step) for earlier in unfinished_steps):
                return step
            unfinished_steps.append(step)
        return None

    def _start_step(self, step: Step) -> None:
        """Start a step unless it is up to date; checked only now, as earlier steps have written its inputs by then."""
        self.waiting_steps.remove(step)
        if step.is_up_to_date:
            print(f"{step.name}: up to date", flush=True)
            return
        gpu = self.free_gpus.pop(0)
        environment = self._remaining_work_environment(step)
        if gpu is not None:
            environment |= _gpu_environment(gpu, self.parallel_count)
        self.running_jobs.append(Job(step, start_module(step.command, environment), gpu))

    def _remaining_work_environment(self, step: Step) -> dict[str, str]:
        """CXR_RUN_WORK: the work from this step to the end of the run, in multiples of the step's own."""
        if not step.work_seconds:
            return {}
        outdated_steps = find_outdated_steps([step, *self.waiting_steps, *self.later_steps])
        later_seconds = sum(later_step.work_seconds for later_step in outdated_steps if later_step is not step)
        return {"CXR_RUN_WORK": f"{1 + later_seconds / self.parallel_count / step.work_seconds:.4f}"}

    def _wait_for_exit(self) -> None:
        """Wait until a process has ended; raises ProcessFailure if it failed."""
        while self.running_jobs:
            for job in self.running_jobs:
                if job.process.poll() is not None:
                    self.running_jobs.remove(job)
                    self.free_gpus.append(job.gpu)
                    raise_for_exit_code(job.process, job.step.name, job.step.command)
                    return
            time.sleep(0.05)


def _gpu_environment(gpu: str, parallel_count: int) -> dict[str, str]:
    """One GPU, its share of the cores for loader processes, and plain log lines, as several steps print at once."""
    workers = os.environ.get("CXR_WORKERS") or str(max(1, min(8, (os.cpu_count() or 1) // 2 // parallel_count)))
    return {"CUDA_VISIBLE_DEVICES": gpu, "CXR_WORKERS": workers, "CXR_PLAIN": "1"}


def start_module(command: tuple[str, ...], environment: dict[str, str] | None = None) -> subprocess.Popen:
    """Start `python -m command` in the project's folder; it prints where this process prints."""
    return subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL, preexec_fn=die_with_parent,
    )  # fmt: skip


def run_module(name: str, command: tuple[str, ...], accepted_codes: tuple[int, ...] = (0,)) -> None:
    """Run `python -m command` to its end; raises ProcessFailure unless its exit code is one of `accepted_codes`."""
    process = start_module(command)
    try:
        process.wait()
    finally:
        terminate_processes([process])
    if process.returncode not in accepted_codes:
        raise_for_exit_code(process, name, command)


def raise_for_exit_code(process: subprocess.Popen, name: str, command: tuple[str, ...]) -> None:
    """If a process failed, print how to run it alone, and raise ProcessFailure (with code 1 if it was killed)."""
    code = process.returncode
    if code == 0:
        return
    was_killed = code < 0
    reason = f"was killed by {signal.Signals(-code).name}" if was_killed else f"ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    print(
        f"error: {name} {reason}{hint}; to run this step alone:\n  {format_shell_command(command)}",
        file=sys.stderr,
    )
    raise ProcessFailure(1 if was_killed else code)


def format_shell_command(command: tuple[str, ...]) -> str:
    """The shell command that runs a step alone, with the variables of this run."""
    keys = ("RECIPE", "DATA", "WEIGHTS", "SMOKE", "CXR_HOME")
    variables = [f"{key}={os.environ[key]}" for key in keys if os.environ.get(key)]
    python = os.path.relpath(sys.executable, ROOT) if Path(sys.executable).is_relative_to(ROOT) else sys.executable
    return f"cd {shlex.quote(str(ROOT))} && " + shlex.join(["env", *variables, python, "-m", *command])


def terminate_processes(processes: list[subprocess.Popen]) -> None:
    """End the processes that still run; steps write their files atomically, so only the last minutes are lost."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def die_with_parent() -> None:
    """On Linux: have this process terminated when the one that started it is gone, even if that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
