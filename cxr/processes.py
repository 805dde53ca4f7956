"""A function over many tasks in several processes, where a process that dies costs one task, not the run."""

import multiprocessing
import multiprocessing.util
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

CHUNK = 8  # tasks handed over at a time
LONGEST = 70  # bytes of TMPDIR: a socket's path has at most 103 (macOS) or 107, and multiprocessing adds 31
SHARED = Path("/dev/shm")
SEMAPHORES = 1 << 20  # bytes: each takes a page of memory, a pool of processes a dozen of them
DIED = object()
"""The result of a task that took its process down with it (a codec's crash, out of memory)."""


def each(
    function: Callable, tasks: Iterable, workers: int | None = None, preload: Iterable[str] = ()
) -> Iterator[tuple[Any, Any]]:
    """Yield (task, function(task)) as they finish, in no order; (task, DIED) where the process died on it.

    `function` and tasks are sent to the processes; an exception of `function` ends the run.
    preload: modules that the processes share, imported once. Where the system gives no processes, this one works.
    """
    if not can_start():
        yield from ((task, function(task)) for task in tasks)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    workers = workers or _cpus()
    tasks = iter(tasks)
    chunks = iter(lambda: list(islice(tasks, CHUNK)), [])
    while True:
        running: dict[Future, list] = {}
        try:
            with _pool(context, workers) as pool:
                yield from _rounds(pool, function, chunks, running, 2 * workers)
            return
        except BrokenProcessPool:
            suspects = [task for chunk in running.values() for task in chunk]
        for task in suspects:
            yield task, _alone(context, function, task)


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pool(context: Any, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, context, initializer=settle)


def _rounds(pool: Any, function: Callable, chunks: Iterator[list], running: dict[Future, list], most: int) -> Iterator:
    """Keep `most` chunks under way; `running` holds those without a result, also after a crash."""
    try:
        while True:
            for chunk in islice(chunks, most - len(running)):
                running[_submit(pool, function, chunk, running)] = chunk
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                results = future.result()
                yield from zip(running.pop(future), results, strict=True)
    finally:
        for future in running:
            future.cancel()


def _submit(pool: Any, function: Callable, chunk: list, running: dict[Future, list]) -> Future:
    try:
        return pool.submit(_run, function, chunk)
    except BrokenProcessPool:
        running[Future()] = chunk
        raise


def _run(function: Callable, chunk: list) -> list:
    return [function(task) for task in chunk]


def _alone(context: Any, function: Callable, task: Any) -> Any:
    """The task in a process of its own."""
    try:
        with _pool(context, 1) as pool:
            return pool.submit(function, task).result()
    except BrokenProcessPool:
        return DIED


def settle() -> None:
    """In each process: leave Ctrl-C to the parent, and end with it, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def loaders(asked: int | None) -> int:
    """Processes that load a training's images: as asked, or CXR_WORKERS, or half the cores and at most 8.

    0 where the system gives none: this process then loads them.
    """
    if asked is None:
        asked = int(os.environ.get("CXR_WORKERS", min(8, max(1, (os.cpu_count() or 1) // 2))))
    return asked if asked and can_start() else 0


@cache
def can_start() -> bool:
    """Whether processes can be started that talk with this one; where not, that is said, once."""
    _shorten_sockets()
    if refusal := _refusal():
        print(f"note: {SHARED}: {refusal}; so all is done in one process, which takes longer", file=sys.stderr)
    return not refusal


def _refusal() -> str | None:
    """Why the system gives no semaphores, which Linux keeps in /dev/shm."""
    try:
        multiprocessing.get_context("fork").Lock()
    except OSError as error:
        return error.strerror
    full = SHARED.is_dir() and shutil.disk_usage(SHARED).free < SEMAPHORES
    return f"less than {SEMAPHORES >> 10} KB are free" if full else None


def _shorten_sockets() -> None:
    """Have multiprocessing keep its sockets in /tmp where TMPDIR is too long for their paths."""
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST:
        return
    before, tempfile.tempdir = tempfile.tempdir, "/tmp"
    try:
        multiprocessing.util.get_temp_dir()  # remembered for this process and its children
    finally:
        tempfile.tempdir = before
