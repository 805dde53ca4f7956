"""One progress line that rewrites itself on a terminal, plain lines now and then in a log."""

import os
import sys
import time


class ProgressLine:
    """Progress of one step of work; `show_progress` shows what is new, `print_message` the last word."""

    def __init__(self, label: str, log_seconds: float = 30.0) -> None:
        self.label, self.log_seconds = label, log_seconds
        self.is_terminal = sys.stderr.isatty() and not os.environ.get(
            "CXR_PLAIN"
        )  # set where several steps run at once
        self._last_shown = 0.0

    def show_progress(self, text: str) -> None:
        """Show `text` if the last was long enough ago: half a second on a terminal, `log_seconds` in a log."""
        now = time.monotonic()
        if now - self._last_shown < (0.5 if self.is_terminal else self.log_seconds):
            return
        self._last_shown = now
        prefix, suffix = ("\r\033[K", "") if self.is_terminal else ("", "\n")
        print(f"{prefix}{self.label}: {text}", end=suffix, file=sys.stderr, flush=True)

    def print_message(self, text: str) -> None:
        """Show the last word, whenever the one before it was."""
        print(
            f"{chr(13) + chr(27) + '[K' if self.is_terminal else ''}{self.label}: {text}", file=sys.stderr, flush=True
        )


def format_duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
