"""Putting files into the data folder: nothing outside it, nothing over what a user has, nothing half-written."""

import os
import re
import shutil
import unicodedata
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cxr.errors import DataError, UsageError
from cxr.progress import Line

WORK = ".fetch"  # hidden, so that no one takes what lies there for data
WANTED = (".dcm", ".csv")  # what the project reads (cxr.kaggle, stage0_bbox)
CHUNK = 1 << 20
EXAMPLES = 5  # names in a message


@dataclass(frozen=True)
class Item:
    """A file to put into the data folder."""

    path: str
    """Relative to the data folder, parts separated by '/'."""
    size: int
    crc: Callable[[], int]
    open: Callable[[], BinaryIO]


def is_wanted(path: str, kinds: tuple[str, ...] = WANTED) -> bool:
    """Whether the project reads a file of this name: DICOM or CSV, no part of it hidden ('..' is not, but refused)."""
    hidden = any(part.startswith(".") and part not in (".", "..") for part in path.split("/"))
    return path.lower().endswith(kinds) and not hidden


def plain_path(path: str) -> str:
    """A path as file systems read it: without './' and doubled separators; Windows' own are read as separators."""
    path = path.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/" * path.startswith("/") + "/".join(parts)


def check_names(paths: Iterable[str], source: str) -> None:
    """Raises DataError for a file's name that leads out of the folder, or two that a file system could take for one.

    paths: of what is to be written alone, each as `plain_path` gives it.
    """
    seen: dict[str, str] = {}
    for path in paths:
        reason = _unsafe(path)
        if reason:
            raise DataError(f"{source} is refused, nothing was written: entry {path!r} {reason}")
        key = unicodedata.normalize("NFC", path).casefold()
        if key in seen:
            raise DataError(f"{source} is refused, nothing was written: {path!r} and {seen[key]!r} are one name")
        seen[key] = path
    for key, path in seen.items():
        if any(parent in seen for parent in _parents(key)):
            raise DataError(f"{source} is refused, nothing was written: {path!r} lies below a file")


def _unsafe(path: str) -> str | None:
    if path.startswith("/"):
        return "is an absolute path"
    if re.match(r"[A-Za-z]:", path):
        return "begins with a drive letter"
    if ".." in path.split("/"):
        return "leads out of its folder by '..'"
    return "has a control character" if any(ord(character) < 32 for character in path) else None


def _parents(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def place(items: list[Item], into: Path, label: str) -> int:
    """Write those of `items` into `into` that are not there yet; returns how many.

    Raises UsageError, before anything is written, where a file with other content is in the way, where a link leads
    out of `into`, or where the disk is too full.
    """
    missing = absent(items, into)
    require_space(into, sum(item.size for item in missing))
    line = Line(label)
    for number, item in enumerate(missing, 1):
        _write(item, into)
        line.say(f"{number} of {len(missing)} files")
    line.end(f"{len(missing)} files written, {len(items) - len(missing)} were there")
    return len(missing)


def absent(items: list[Item], into: Path) -> list[Item]:
    """The items that are not there yet; UsageError names the files that differ."""
    root = into.resolve()
    inside = {parent: parent.resolve().is_relative_to(root) for parent in {(into / i.path).parent for i in items}}
    leaving = next((parent for parent, stays in inside.items() if not stays), None)
    if leaving:
        raise UsageError(f"{leaving} is a link that leads out of {into}; nothing was written; name the folder itself")
    found = [item for item in items if not os.path.lexists(into / item.path)]
    there = [item for item in items if os.path.lexists(into / item.path)]
    differing = [item.path for item in there if not _same(into / item.path, item)]
    if differing:
        names = ", ".join(differing[:EXAMPLES]) + (", ..." if len(differing) > EXAMPLES else "")
        raise UsageError(
            f"{len(differing)} files in {into} differ from those to be fetched: {names}; nothing was changed; "
            f"move them away, or name another folder with --into"
        )
    return found


def _same(path: Path, item: Item) -> bool:
    return path.is_file() and path.stat().st_size == item.size and crc32(path) == item.crc()


def crc32(path: Path) -> int:
    """The CRC-32 of a file, as zip archives note it."""
    found = 0
    with open(path, "rb") as handle:
        while chunk := handle.read(CHUNK):
            found = zlib.crc32(chunk, found)
    return found


def require_space(folder: Path, needed: int) -> None:
    """Raises UsageError where fewer than `needed` bytes are free on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(f"{needed / 1e9:.2f} GB are needed in {folder}, {free / 1e9:.2f} GB are free there")


def _write(item: Item, into: Path) -> None:
    """One file: beside first (always under one name, so that a kill leaves no heap of them), then renamed."""
    target, beside = into / item.path, into / WORK / "beside"
    target.parent.mkdir(parents=True, exist_ok=True)
    with item.open() as source, open(beside, "wb") as handle:
        shutil.copyfileobj(source, handle, CHUNK)
    if beside.stat().st_size != item.size:
        raise DataError(f"{item.path} has {beside.stat().st_size} bytes in place of {item.size}; run the same again")
    os.replace(beside, target)
