"""Whether other work takes the cores from a training: what its threads waited for one, as Linux counts it."""

import os
import time
from pathlib import Path

from cxr.progress import ProgressLine

WINDOW_SECONDS = 20.0  # seconds of training over which is counted
MIN_CORE_SHARE = 0.75  # least share of the time in which threads got a core, of that in which they could have run


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


class ContentionMonitor:
    """Says once in a process that it waits for cores."""

    def __init__(self) -> None:
        self.has_warned, self._window_start, self._window_times = False, None, (0.0, 0.0)

    def warn_if_shared(self, line: ProgressLine) -> None:
        """Count over a window of steps, and say on this training's line that the cores are shared; at every step."""
        if self.has_warned or (
            self._window_start is not None and time.monotonic() - self._window_start < WINDOW_SECONDS
        ):
            return
        times = core_times()
        ran, waited = (now - previous for now, previous in zip(times, self._window_times, strict=True))
        if self._window_start is not None and ran < MIN_CORE_SHARE * (ran + waited):
            self.has_warned = True
            line.print_message(describe_contention(ran / (ran + waited)))
        self._window_start, self._window_times = time.monotonic(), times


def describe_contention(core_share: float) -> str:
    """What to say where threads got a core in this share of the time."""
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    thread_hint = f", or start again with OMP_NUM_THREADS={max(round(core_share * threads), 1)}" if threads > 1 else ""
    return (
        f"the cores are shared with other work: its threads get one in {core_share:.0%} of the time and wait for each "
        f"other, which is slower than the share tells; end what else runs{thread_hint}"
    )
