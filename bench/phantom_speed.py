"""How many phantoms a second, DICOM writing included.

    python -m bench.phantom_speed --count 120 --size 1024

The wish is 8 a second of 1024 x 1024 on two cores. Start-up of the processes is part of the time.
"""

import os
import tempfile
import time
from pathlib import Path

import tyro

from phantom.config import default_config
from phantom.make import make


def main(count: int = 120, size: int = 1024, processes: int = 0) -> None:
    """Makes `count` phantoms in a temporary folder; 0 processes: one for each core."""
    config = default_config().model_copy(update={"train": count, "test": 0, "size": size})
    processes = processes or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        start, before = time.perf_counter(), os.times()
        make(Path(folder) / "phantoms", config, processes)
        wall, after = time.perf_counter() - start, os.times()
    busy = after.children_user + after.children_system + after.user + after.system
    busy -= before.children_user + before.children_system + before.user + before.system
    print(
        f"{count / wall:.1f} phantoms a second of {size} x {size} on {processes} processes (wanted at 1024: 8 on two)"
    )
    quiet = processes * count / busy
    print(f"{1000 * busy / count:.0f} ms of processor time each; on a quiet machine {quiet:.1f} a second")


if __name__ == "__main__":
    tyro.cli(main)
