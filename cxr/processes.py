"""A function over many tasks in several processes, where a process that dies costs one task, not the run."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

CHUNK = 8  # tasks handed over at a time
DIED = object()
"""The result of a task that took its process down with it (a codec's crash, out of memory)."""


def each(
    function: Callable, tasks: Iterable, workers: int | None = None, preload: Iterable[str] = ()
) -> Iterator[tuple[Any, Any]]:
    """Yield (task, function(task)) as they finish, in no order; (task, DIED) where the process died on it.

    `function` and tasks are sent to the processes; an exception of `function` ends the run.
    preload: modules that the processes share, imported once.
    """
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
    """Processes that load a training's images: as asked, or CXR_WORKERS, or half the cores and at most 8."""
    if asked is None:
        asked = int(os.environ.get("CXR_WORKERS", min(8, max(1, (os.cpu_count() or 1) // 2))))
    return asked
