"""The standard streams: text in the encoding of the locale, and no closed stream that ends a run silently."""

import codecs
import os
import select
import sys
from typing import TextIO

ASCII_LIKENESSES = {
    "←": "<-", "→": "->", "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "±": "+/-", "≤": "<=", "≥": ">=",
    "²": "^2", "‘": "'", "’": "'", "“": '"', "”": '"',
}  # fmt: skip
"""What stands for a character that the terminal's encoding lacks."""


def prepare_streams() -> None:
    """Have stdout and stderr print any text, and take none where the caller closed them (`2>&-`)."""
    codecs.register_error("plain", _replace_unencodable)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="plain")


def _replace_unencodable(error: UnicodeError) -> tuple[str | bytes, int]:
    """The likeness of a character in ASCII; the byte itself of a file's name that is not in the locale's encoding."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # how Python holds such bytes (PEP 383)
        return bytes([ord(character) - 0xDC00]), error.start + 1
    likeness = ASCII_LIKENESSES.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")
    return likeness, error.start + 1


def drop_failing_stream() -> str | None:
    """The name of the standard stream that can no longer be written, None where both can; it takes nothing more."""
    failing_name = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            is_unread = _is_unread(stream)
        except OSError:
            is_unread = True
        if is_unread:
            failing_name = stream.name.strip("<>")
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else Python tries, and complains, at its end
    return failing_name


def _is_unread(stream: TextIO) -> bool:
    """Whether it is a pipe whose reader has gone; asked of the system, as an unbuffered stream has forgotten it."""
    try:
        descriptor = stream.fileno()
    except OSError:  # a stream of a test's
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(events & select.POLLERR for _, events in poll.poll(0))
