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

CHUNK_SIZE = 8  # tasks handed over at a time
MAX_TMPDIR_BYTES = 70  # bytes of TMPDIR: a socket's path has at most 103 (macOS) or 107, and multiprocessing adds 31
SHARED_MEMORY = Path("/dev/shm")
SEMAPHORE_BYTES = 1 << 20  # bytes: each takes a page of memory, a pool of processes a dozen of them
DIED = object()
"""The result of a task that took its process down with it (a codec's crash, out of memory)."""


def map_unordered(
    function: Callable, tasks: Iterable, workers: int | None = None, preload: Iterable[str] = ()
) -> Iterator[tuple[Any, Any]]:
    """Yield (task, function(task)) as they finish, in no order; (task, DIED) where the process died on it.

    function: can be pickled; an exception of it ends the run.
    tasks: can be pickled.
    workers: processes; None: one for each processor. This process does the work if none can be started.
    preload: modules that are imported once and shared by the processes.
    """
    if not can_start_processes():
        yield from ((task, function(task)) for task in tasks)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    workers = workers or _count_cpus()
    tasks = iter(tasks)
    chunks = iter(lambda: list(islice(tasks, CHUNK_SIZE)), [])
    while True:
        running: dict[Future, list] = {}
        try:
            with _open_pool(context, workers) as pool:
                yield from _run_chunks(pool, function, chunks, running, 2 * workers)
            return
        except BrokenProcessPool:
            suspects = [task for chunk in running.values() for task in chunk]
        for task in suspects:
            yield task, _run_in_own_process(context, function, task)


def _count_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_pool(context: Any, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, context, initializer=init_worker)


def _run_chunks(
    pool: Any, function: Callable, chunks: Iterator[list], running: dict[Future, list], max_running: int
) -> Iterator:
    """Keep `max_running` chunks under way; `running` holds those without a result, also after a crash."""
    try:
        while True:
            for chunk in islice(chunks, max_running - len(running)):
                running[_submit_chunk(pool, function, chunk, running)] = chunk
            if not running:
                return
            finished_futures, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished_futures:
                results = future.result()
                yield from zip(running.pop(future), results, strict=True)
    finally:
        for future in running:
            future.cancel()


def _submit_chunk(pool: Any, function: Callable, chunk: list, running: dict[Future, list]) -> Future:
    try:
        return pool.submit(_run_chunk, function, chunk)
    except BrokenProcessPool:
        running[Future()] = chunk
        raise


def _run_chunk(function: Callable, chunk: list) -> list:
    return [function(task) for task in chunk]


def _run_in_own_process(context: Any, function: Callable, task: Any) -> Any:
    """The task in a process of its own."""
    try:
        with _open_pool(context, 1) as pool:
            return pool.submit(function, task).result()
    except BrokenProcessPool:
        return DIED


def init_worker() -> None:
    """In each process: leave Ctrl-C to the parent, and end with it, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def count_loaders(workers: int | None) -> int:
    """Processes that load a training's images: as asked, or CXR_WORKERS, or half the cores and at most 8.

    0 where the system gives none: this process then loads them.
    """
    if workers is None:
        workers = int(os.environ.get("CXR_WORKERS", min(8, max(1, (os.cpu_count() or 1) // 2))))
    return workers if workers and can_start_processes() else 0


@cache
def can_start_processes() -> bool:
    """Whether processes can be started that talk with this one; where not, that is said, once."""
    _shorten_sockets()
    if problem := _semaphore_problem():
        print(f"note: {SHARED_MEMORY}: {problem}; so all is done in one process, which takes longer", file=sys.stderr)
    return not problem


def _semaphore_problem() -> str | None:
    """Why the system gives no semaphores, which Linux keeps in /dev/shm."""
    try:
        multiprocessing.get_context("fork").Lock()
    except OSError as error:
        return error.strerror
    is_full = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free < SEMAPHORE_BYTES
    return f"less than {SEMAPHORE_BYTES >> 10} KB are free" if is_full else None


def _shorten_sockets() -> None:
    """Have multiprocessing keep its sockets in /tmp where TMPDIR is too long for their paths."""
    if len(os.fsencode(tempfile.gettempdir())) <= MAX_TMPDIR_BYTES:
        return
    previous_tempdir, tempfile.tempdir = tempfile.tempdir, "/tmp"
    try:
        multiprocessing.util.get_temp_dir()  # remembered for this process and its children
    finally:
        tempfile.tempdir = previous_tempdir
