"""Whether other work takes the cores from a training: what its threads waited for one, as Linux counts it."""

import os
import time
from pathlib import Path

from cxr.progress import Line

WINDOW = 20.0  # seconds of training over which is counted
SHARED = 0.75  # least share of the time in which threads got a core, of that in which they could have run


def core_times() -> tuple[float, float]:
    """Seconds that this process's threads have run, and have waited for a core; zeros where no Linux counts them."""
    ran = waited = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        try:
            times = path.read_text().split()
        except OSError:  # the thread has just ended
            continue
        ran, waited = ran + int(times[0]), waited + int(times[1])
    return ran / 1e9, waited / 1e9


class Cores:
    """Says once in a process that it waits for cores."""

    def __init__(self) -> None:
        self.said, self._began, self._times = False, None, (0.0, 0.0)

    def watch(self, line: Line) -> None:
        """Count over a window of steps, and say on this training's line that the cores are shared; at every step."""
        if self.said or (self._began is not None and time.monotonic() - self._began < WINDOW):
            return
        times = core_times()
        ran, waited = (now - before for now, before in zip(times, self._times, strict=True))
        if self._began is not None and ran < SHARED * (ran + waited):
            self.said = True
            line.end(shared(ran / (ran + waited)))
        self._began, self._times = time.monotonic(), times


def shared(got: float) -> str:
    """What to say where threads got a core in this share of the time."""
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    fewer = f", or start again with OMP_NUM_THREADS={max(round(got * threads), 1)}" if threads > 1 else ""
    return (
        f"the cores are shared with other work: its threads get one in {got:.0%} of the time and wait for each other, "
        f"which is slower than the share tells; end what else runs{fewer}"
    )
