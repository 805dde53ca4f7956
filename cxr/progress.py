"""One progress line that rewrites itself on a terminal, plain lines now and then in a log."""

import os
import sys
import time


class Line:
    """Progress of one unit of work; `say` shows what is new, `end` leaves the last word standing."""

    def __init__(self, label: str, log_every: float = 30.0) -> None:
        self.label, self.log_every = label, log_every
        self.terminal = sys.stderr.isatty() and not os.environ.get("CXR_PLAIN")  # set where several units run at once
        self._shown = 0.0

    def say(self, text: str) -> None:
        """Show `text` if the last was long enough ago: half a second on a terminal, `log_every` in a log."""
        now = time.monotonic()
        if now - self._shown < (0.5 if self.terminal else self.log_every):
            return
        self._shown = now
        start, end = ("\r\033[K", "") if self.terminal else ("", "\n")
        print(f"{start}{self.label}: {text}", end=end, file=sys.stderr, flush=True)

    def end(self, text: str) -> None:
        """Show the last word, whenever the one before it was."""
        print(f"{chr(13) + chr(27) + '[K' if self.terminal else ''}{self.label}: {text}", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
