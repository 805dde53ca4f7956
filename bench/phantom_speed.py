"""How many phantoms a second, DICOM writing included.

    python -m bench.phantom_speed --count 120 --size 1024

Aim: 8 a second of 1024 x 1024 on two cores. The start of the processes is part of the time.
"""

import os
import tempfile
import time
from pathlib import Path

import tyro

from phantom.config import default_config
from phantom.make import make_phantoms


def main(count: int = 120, size: int = 1024, processes: int = 0) -> None:
    """Make `count` phantoms in a temporary folder; 0 processes: one for each core."""
    config = default_config().model_copy(update={"train": count, "test": 0, "size": size})
    processes = processes or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        start, times_before = time.perf_counter(), os.times()
        make_phantoms(Path(folder) / "phantoms", config, processes)
        wall_seconds, times_after = time.perf_counter() - start, os.times()
    cpu_seconds = times_after.children_user + times_after.children_system + times_after.user + times_after.system
    cpu_seconds -= times_before.children_user + times_before.children_system + times_before.user + times_before.system
    print(f"{count / wall_seconds:.1f} phantoms a second of {size} x {size} on {processes} processes", end=" ")
    print("(aim at 1024: 8 on two)")
    quiet_rate = processes * count / cpu_seconds
    print(f"{1000 * cpu_seconds / count:.0f} ms of processor time each; on a quiet machine {quiet_rate:.1f} a second")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
