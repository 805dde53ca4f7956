"""Why a file is refused: one short line in words of our own, whatever a reader raised.

What pydicom and the codecs raise quotes what they read: a damaged length put a patient's name into it.
"""

import os
import re
import resource
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.errors import BytesLengthException, InvalidDicomError

from cxr.errors import DataError

MAX_REASON_LENGTH = 200  # characters
MAX_EXTRA_MEMORY = 500 << 20  # bytes that one file may take on top of what the process holds
CODE_STRING = re.compile(
    r"[A-Z0-9_ ]{1,16}"
)  # the characters of a code string, PS3.5 6.2: no patient's name fits easily
HIDDEN = "(not shown)"
CAUSES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((MemoryError,), "it needs too much memory"),
    ((RecursionError,), "its sequences are nested too deep"),
    ((UnicodeError, LookupError), "a text or value of no known kind, or one that is missing"),
    ((BytesLengthException, struct.error, EOFError), "a value of the wrong length"),
    ((InvalidDicomError, NotImplementedError), "a value representation that does not exist"),
    ((zlib.error,), "its deflated data is damaged"),
    ((OSError, RuntimeError), "its data ends early or is damaged"),
    ((ValueError, TypeError, AttributeError, ArithmeticError), "a value that cannot be right"),
)


class ImageError(DataError):
    """The file is refused; the text is the reason, in one line, without the file's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(" ".join(reason.split())[:MAX_REASON_LENGTH])


@contextmanager
def raise_as_image_error(failure: str) -> Iterator[None]:
    """Turn whatever a reader raises on a damaged file into an ImageError '<failure>: <cause>'."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{failure}: {describe_cause(error)}") from None


def describe_cause(error: Exception) -> str:
    """Why, in words of our own: none of the exception's."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return next((description for kinds, description in CAUSES if isinstance(error, kinds)), type(error).__name__)


def quote_code_string(value: object) -> str:
    """A code string of a header in capitals, '' for none; whatever else stands there is not shown."""
    text = str("" if value is None else value).strip().upper()
    return text if not text or CODE_STRING.fullmatch(text) else HIDDEN


@contextmanager
def limit_memory() -> Iterator[None]:
    """Let the process take MAX_EXTRA_MEMORY more at most.

    A code stream of 100 bytes can make its decoder ask for 17 GB.
    Held where the system tells what is in use (Linux), and in the main thread: the limit is the whole process's.
    """
    used_bytes = _measure_address_space() if threading.current_thread() is threading.main_thread() else None
    if used_bytes is None:
        yield
        return
    soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    limits = [
        used_bytes + MAX_EXTRA_MEMORY,
        *(limit for limit in (soft_limit, hard_limit) if limit != resource.RLIM_INFINITY),
    ]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard_limit))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft_limit, hard_limit))


def _measure_address_space() -> int | None:
    """Bytes that the process has mapped, None where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as handle:
            return int(handle.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None
