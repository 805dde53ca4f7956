"""Writing files so that nothing is ever half-written: write beside, then rename."""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; renamed to it on success, deleted on failure.

    What is written through it should go through Python's own files, whose OSErrors say that the disk is full:
    PyTorch, safetensors, NumPy and OpenCV say so in other words, or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary) or (error.filename is None and error.errno in DISK_ERRORS):
            error.filename = str(path)  # write() does not say which file, and nobody knows the temporary one
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def reserve_disk_space(path: Path) -> None:
    """Have the disk set aside what `path` may hold, before it is mapped: OSError where there is too little.

    A new memory map is a file of holes; a full disk then kills the process that writes into one (SIGBUS).
    """
    with open(path, "r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` in one step."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: object) -> None:
    """Write `values` as indented JSON in one step."""
    write_text(path, json.dumps(values, indent=2, default=str) + "\n")


def read_json(path: Path) -> dict | None:
    """The JSON object in `path`, or None where there is none or it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
