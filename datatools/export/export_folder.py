"""The folder of an export: it appears complete or not at all, and replaces nothing but an older export."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxr import runs
from cxr.errors import UsageError
from cxr.files import read_json, write_json

RECORD_FILE = "export.json"  # describes the export; written last


@contextmanager
def replace_export(target: Path, record: dict) -> Iterator[Path]:
    """Yield an empty folder; on success it becomes `target`, with `record` in its export.json.

    Raises UsageError where `target` holds anything but an unchanged export, where another process exports to it, or
    where the disk is full; `target` is then as before.
    """
    try:
        _require_replaceable(target)
        with _open_workshop(target) as workshop:
            new_folder = workshop / "new"
            new_folder.mkdir()
            yield new_folder
            write_json(new_folder / RECORD_FILE, record | {"content": _hash_content(new_folder)})
            _require_replaceable(target)  # again: it may have been written to meanwhile
            if target.exists():
                target.rename(workshop / "old")
            new_folder.rename(target)
    except OSError as error:
        raise UsageError(f"{error.filename or target}: {error.strerror or error}; nothing was exported") from None


@contextmanager
def _open_workshop(target: Path) -> Iterator[Path]:
    """A hidden folder next to `target`, locked for this process; what a killed export left in it is removed."""
    workshop = target.with_name(f".{target.name}.partial")
    workshop.mkdir(parents=True, exist_ok=True)
    with runs.lock_folder(workshop):
        _clear_workshop(workshop, target)
        try:
            yield workshop
        finally:
            _clear_workshop(workshop, target)
            (workshop / ".lock").unlink()
            workshop.rmdir()


def _clear_workshop(workshop: Path, target: Path) -> None:
    """Empty a workshop; an older export that was moved there, but not replaced yet, is moved back first."""
    if (workshop / "old").exists() and not target.exists():
        (workshop / "old").rename(target)
    for name in ("new", "old"):
        if (workshop / name).exists():
            shutil.rmtree(workshop / name)


def _require_replaceable(target: Path) -> None:
    """Raise UsageError unless `target` is missing, empty, or an export that nobody has changed."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    record = read_json(target / RECORD_FILE) if target.is_dir() else None
    if record is None or "content" not in record:
        raise UsageError(f"{target} is there and is no export of this command; choose another --out")
    if record["content"] != _hash_content(target):
        raise UsageError(f"{target}: files were added, changed or removed since its export; choose another --out")


def _hash_content(folder: Path) -> str:
    """SHA-256 of the names, sizes and times of an export's files, without its export.json."""
    files = sorted(path for path in folder.rglob("*") if not path.is_dir() and path != folder / RECORD_FILE)
    digest = hashlib.sha256()
    for path in files:
        stat = path.lstat()
        digest.update(f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "replace"))
    return digest.hexdigest()
