"""Steps as processes: one after the other, or as many at once as there are GPUs."""

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

GRACE_SECONDS = 10.0  # seconds that a process has to end by itself before it is killed
PR_SET_PDEATHSIG = 1  # Linux: prctl(PR_SET_PDEATHSIG)


class ProcessFailure(SystemExit):
    """A process ended badly; carries the exit code to pass on."""


@dataclass
class Job:
    """A step under way, on a GPU of its own where there are several."""

    step: Step
    process: subprocess.Popen
    gpu: str | None


class JobRunner:
    """Runs the steps of a stage; `later_steps` are those of the stages after it, for the time left of the whole run."""

    def __init__(self, steps: list[Step], later_steps: list[Step], gpus: list[str]) -> None:
        self.waiting_steps, self.later_steps = list(steps), later_steps
        self.free_gpus: list[str | None] = list(gpus) if len(gpus) > 1 else [None]
        self.parallel_count = len(self.free_gpus)
        self.running_jobs: list[Job] = []

    def run_all(self) -> None:
        """Run them all; the first that fails ends those beside it, and its exit code is passed on."""
        try:
            while self.waiting_steps or self.running_jobs:
                while self.free_gpus and (step := self._next_ready_step()):
                    self._start_step(step)
                self._wait_for_exit()
        finally:
            terminate_processes([job.process for job in self.running_jobs])

    def _next_ready_step(self) -> Step | None:
        """The first step that waits for none of the unfinished ones before it."""
        unfinished_steps = [job.step for job in self.running_jobs]
        for step in self.waiting_steps:
            if not any(feeds_into(earlier, step) for earlier in unfinished_steps):
                return step
            unfinished_steps.append(step)
        return None

    def _start_step(self, step: Step) -> None:
        """Up to date or not is asked only now: the steps before this one have written its inputs."""
        self.waiting_steps.remove(step)
        if step.is_up_to_date:
            print(f"{step.name}: up to date", flush=True)
            return
        gpu = self.free_gpus.pop(0)
        environment = self._remaining_work_environment(step) | (
            _gpu_environment(gpu, self.parallel_count) if gpu is not None else {}
        )
        self.running_jobs.append(Job(step, start_module(step.command, environment), gpu))

    def _remaining_work_environment(self, step: Step) -> dict[str, str]:
        """CXR_RUN_WORK: the work from this step to the end of the run, in multiples of its own."""
        if not step.work_seconds:
            return {}
        outdated_steps = find_outdated_steps([step, *self.waiting_steps, *self.later_steps])
        later_work = (
            sum(later_step.work_seconds for later_step in outdated_steps if later_step is not step)
            / self.parallel_count
        )
        return {"CXR_RUN_WORK": f"{1 + later_work / step.work_seconds:.4f}"}

    def _wait_for_exit(self) -> None:
        """Until a process has ended."""
        while self.running_jobs:
            for job in self.running_jobs:
                if job.process.poll() is not None:
                    self.running_jobs.remove(job)
                    self.free_gpus.append(job.gpu)
                    raise_for_exit_code(job.process, job.step.name, job.step.command)
                    return
            time.sleep(0.05)


def _gpu_environment(gpu: str, parallel_count: int) -> dict[str, str]:
    """One GPU, a fair share of the cores for loading, and plain log lines: several steps write at once."""
    workers = os.environ.get("CXR_WORKERS") or str(max(1, min(8, (os.cpu_count() or 1) // 2 // parallel_count)))
    return {"CUDA_VISIBLE_DEVICES": gpu, "CXR_WORKERS": workers, "CXR_PLAIN": "1"}


def start_module(command: tuple[str, ...], environment: dict[str, str] | None = None) -> subprocess.Popen:
    """Start `python -m command` in the project's folder; its output goes where ours goes."""
    return subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL, preexec_fn=die_with_parent,
    )  # fmt: skip


def run_module(name: str, command: tuple[str, ...], accepted_codes: tuple[int, ...] = (0,)) -> None:
    """Run `python -m command` to its end; any exit code but those in `accepted_codes` ends us too."""
    process = start_module(command)
    try:
        process.wait()
    finally:
        terminate_processes([process])
    if process.returncode not in accepted_codes:
        raise_for_exit_code(process, name, command)


def raise_for_exit_code(process: subprocess.Popen, name: str, command: tuple[str, ...]) -> None:
    """Where a process ended badly: say which, and how to run it alone; end with its exit code (1 if it was killed)."""
    code = process.returncode
    if code == 0:
        return
    was_killed = code < 0
    reason = f"was killed by {signal.Signals(-code).name}" if was_killed else f"ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    print(
        f"error: {name} {reason}{hint}; this one alone runs again with:\n  {format_shell_command(command)}",
        file=sys.stderr,
    )
    raise ProcessFailure(1 if was_killed else code)


def format_shell_command(command: tuple[str, ...]) -> str:
    """The shell command of a step."""
    keys = ("RECIPE", "DATA", "WEIGHTS", "SMOKE", "CXR_HOME")
    variables = [f"{key}={os.environ[key]}" for key in keys if os.environ.get(key)]
    python = os.path.relpath(sys.executable, ROOT) if Path(sys.executable).is_relative_to(ROOT) else sys.executable
    return f"cd {shlex.quote(str(ROOT))} && " + shlex.join(["env", *variables, python, "-m", *command])


def terminate_processes(processes: list[subprocess.Popen]) -> None:
    """End what still runs; what a step writes is whole at any time, so nothing is lost but the last minutes."""
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
    """Linux: ask to be terminated when the process that started this one is gone, even if it was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
