"""Errors that speak to the user, and the exit codes they end a command with."""

import errno
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path

from cxr import terminal
from cxr.paths import ROOT, home_folder

MAX_MESSAGE_CHARACTERS = 300  # characters of what a library says
PIPE_CLOSED = 141  # 128 + SIGPIPE, as a shell reports it
REMEDIES = {
    "ENOSPC EDQUOT": "make room there, then the same command goes on",
    "EFBIG": "files may not be so large there (ulimit -f, or the file system){elsewhere}",
    "EACCES EPERM EROFS": "allow it{elsewhere}",
    "ENAMETOOLONG": "shorten the path{elsewhere}",
    "EEXIST ENOTDIR EISDIR": "something of another kind has that name: move it away{elsewhere}",
    "ENOENT": "was it moved or removed, or is its disk not mounted?",
    "ELOOP": "links lead round in a circle there: mend them",
    "EMFILE ENFILE": "allow more open files (ulimit -n 8192), or set CXR_WORKERS=0",
    "ENOMEM EAGAIN": "end other programs, or set CXR_WORKERS=0 (each loader process takes memory)",
    "EIO ENXIO ENODEV ESTALE ENOTCONN ETIMEDOUT": "the disk or the network drive fails: is it mounted and healthy?",
    "ENOLCK": "the file system has no locks{elsewhere}",
}
"""By the system's names of its errors."""


class UsageError(Exception):
    """The command, a setting, the machine or a missing earlier step is at fault: exit code 2."""

    exit_code = 2


class DataError(Exception):
    """The user's data is at fault; the message names the file and the row: exit code 3."""

    exit_code = 3


def run_main(main: Callable[[], None]) -> None:
    """Run a command. What the user can mend ends it with one line and an exit code, a bug with its traceback.

    One line: UsageError (2), DataError (3), what the operating system refuses (2), what a library says of a
    damaged file (3); 130 after Ctrl-C, 141 without a word where nobody reads on (`| head`).
    """
    terminal.prepare_streams()
    try:
        main()
        sys.stdout.flush()
    except (UsageError, DataError) as error:
        _exit_with_message(f"error: {_error_message(error)}", error.exit_code)
    except KeyboardInterrupt:
        _exit_with_message("\nstopped; the same command goes on from the last checkpoint", 130)
    except BrokenExecutor:
        _exit_with_message("error: a process was killed (by the system, out of memory?); CXR_WORKERS=0 takes fewer", 2)
    except UnicodeEncodeError as error:
        if "surrogates" not in error.reason:
            raise
        _exit_with_message(
            f"error: {_surrogate_name(error)}: the name is not in UTF-8; rename that file or folder",
            UsageError.exit_code,
        )
    except (OSError, MemoryError) as error:
        stream = terminal.drop_failing_stream()
        if stream and isinstance(error, BrokenPipeError):
            raise SystemExit(PIPE_CLOSED) from None
        number = _error_number(error)
        _exit_with_message(
            f"error: {_describe_refusal(error, number, stream)}",
            UsageError.exit_code if number else DataError.exit_code,
        )


def _exit_with_message(message: str, code: int) -> None:
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:  # nobody hears it
        terminal.drop_failing_stream()
    raise SystemExit(code) from None


def _surrogate_name(error: UnicodeEncodeError) -> str:
    """The file name within the text whose bytes are not UTF-8, which Python holds as surrogates (PEP 383)."""
    before, after = error.object[: error.start], error.object[error.start :]
    return re.search(r"[^\s\"'<>,;:]*\Z", before)[0] + re.match(r"[^\s\"'<>,;:]*", after)[0]


def _error_number(error: OSError | MemoryError) -> int | None:
    """The system's number of an error; None where a library raised it by itself."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    quoted = re.search(r"\[[Ee]rrno (\d+)\]", str(error))
    return error.errno or (int(quoted[1]) if quoted else None)


def _describe_refusal(error: OSError | MemoryError, number: int | None, stream: str | None) -> str:
    """Which file, what is the matter, what to do."""
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):  # words of tempfile
        return f"{_error_message(error)}; TMPDIR=<folder> names one that may be written and has room"
    file = getattr(error, "filename2", None) or getattr(error, "filename", None) or stream
    message = error.strerror if file and getattr(error, "strerror", None) else _error_message(error)
    parts = [f"{file}: {_shorten_message(message)}" if file else _shorten_message(message), _remedy_for(number, file)]
    return "; ".join(filter(None, [*parts, None if file and parts[1] else _innermost_line(error)]))


def _remedy_for(number: int | None, file: object) -> str | None:
    """What helps against an error of the system; None where nothing particular does."""
    remedies = {getattr(errno, name): remedy for names, remedy in REMEDIES.items() for name in names.split()}
    return remedies[number].format(elsewhere=_suggest_other_place(file)) if number in remedies else None


def _suggest_other_place(file: object) -> str:
    """The variable that names another place for a file."""
    places = {"DATA": os.environ.get("DATA"), "TMPDIR": tempfile.tempdir, "CXR_HOME": home_folder()}
    variables = [name for name, folder in places.items() if folder and Path(str(file)).is_relative_to(folder)]
    return f", or name another place: {variables[0]}=<folder>" if variables else ""


def _error_message(error: Exception) -> str:
    """What an error says; of one that a loader process of PyTorch passes on with its traceback, the last line."""
    text = str(error) or type(error).__name__
    if "Original Traceback" not in text:
        return text
    return re.sub(r"^[\w.]+: ", "", text.strip().splitlines()[-1])


def _shorten_message(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else f"{text[:MAX_MESSAGE_CHARACTERS]} ..."


def _innermost_line(error: BaseException) -> str:
    """The innermost line of ours that an error came through, for whoever has to look for its cause."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_project_file(Path(frame.filename))]
    lines = [f"{Path(frame.filename).relative_to(ROOT)}, line {frame.lineno}" for frame in frames]
    return f"it came up in {lines[-1] if lines else 'a library'}"


def _is_project_file(path: Path) -> bool:
    return path.is_relative_to(ROOT) and "site-packages" not in path.parts and path != Path(__file__)
