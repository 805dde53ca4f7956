"""Putting files into the data folder: never outside it, never over a user's file, never half-written."""

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
from cxr.progress import ProgressLine

WORK_FOLDER = ".fetch"  # hidden, so that its files are not taken for data
WANTED_SUFFIXES = (".dcm", ".csv")  # what the project reads (cxr.datasets.kaggle, stage0_bbox)
CHUNK = 1 << 20
MAX_NAMES = 5  # names in a message


@dataclass(frozen=True)
class Item:
    """A file to put into the data folder."""

    path: str
    """Relative to the data folder, parts separated by '/'."""
    size: int
    compute_crc: Callable[[], int]
    """The CRC-32 of its content."""
    open_stream: Callable[[], BinaryIO]


def is_wanted(path: str, suffixes: tuple[str, ...] = WANTED_SUFFIXES) -> bool:
    """Whether the project reads a file of this path: DICOM or CSV, no part hidden ('..' passes, to be refused)."""
    is_hidden = any(part.startswith(".") and part not in (".", "..") for part in path.split("/"))
    return path.lower().endswith(suffixes) and not is_hidden


def plain_path(path: str) -> str:
    """A path as file systems read it: without './' and doubled separators; backslashes become '/'."""
    path = path.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/" * path.startswith("/") + "/".join(parts)


def check_names(paths: Iterable[str], source: str) -> None:
    """Raise DataError for a path that leads out of the folder, and for two that a file system could take for the same.

    paths: of the files to be written, as `plain_path` gives them; source: what messages call the archive.
    """
    paths_by_key: dict[str, str] = {}
    for path in paths:
        reason = _explain_unsafe_path(path)
        if reason:
            raise DataError(f"{source} is refused, nothing was written: entry {path!r} {reason}")
        key = unicodedata.normalize("NFC", path).casefold()
        if key in paths_by_key:
            raise DataError(
                f"{source} is refused, nothing was written: {path!r} and {paths_by_key[key]!r} are one name"
            )
        paths_by_key[key] = path
    for key, path in paths_by_key.items():
        if any(parent in paths_by_key for parent in _list_parent_keys(key)):
            raise DataError(f"{source} is refused, nothing was written: {path!r} lies below a file")


def _explain_unsafe_path(path: str) -> str | None:
    """Why a path is refused; None where it is safe."""
    if path.startswith("/"):
        return "is an absolute path"
    if re.match(r"[A-Za-z]:", path):
        return "begins with a drive letter"
    if ".." in path.split("/"):
        return "leads out of its folder by '..'"
    return "has a control character" if any(ord(character) < 32 for character in path) else None


def _list_parent_keys(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def place_files(items: list[Item], data_folder: Path, label: str) -> int:
    """Write the items that are not in the data folder yet; returns how many. label: of the progress line.

    Raises UsageError, before anything is written, where a file with other content is in the way, where a link leads
    out of the data folder, or where the disk is too full.
    """
    missing_items = find_missing_items(items, data_folder)
    require_space(data_folder, sum(item.size for item in missing_items))
    line = ProgressLine(label)
    for number, item in enumerate(missing_items, 1):
        _write_item(item, data_folder)
        line.show_progress(f"{number} of {len(missing_items)} files")
    line.print_message(f"{len(missing_items)} files written, {len(items) - len(missing_items)} were there")
    return len(missing_items)


def find_missing_items(items: list[Item], data_folder: Path) -> list[Item]:
    """The items that are not in the data folder yet; UsageError where files differ, or a link leads out of it."""
    _require_no_escape(items, data_folder)
    missing_items = [item for item in items if not os.path.lexists(data_folder / item.path)]
    present_items = [item for item in items if os.path.lexists(data_folder / item.path)]
    differing_paths = [item.path for item in present_items if not _has_same_content(data_folder / item.path, item)]
    if differing_paths:
        names = ", ".join(differing_paths[:MAX_NAMES]) + (", ..." if len(differing_paths) > MAX_NAMES else "")
        raise UsageError(
            f"{len(differing_paths)} files in {data_folder} differ from those to be fetched: {names}; nothing was "
            f"changed; move them away, or name another folder with --into"
        )
    return missing_items


def _require_no_escape(items: list[Item], data_folder: Path) -> None:
    """Raise UsageError where the folder of an item is a link that leads out of the data folder."""
    root = data_folder.resolve()
    for folder in {(data_folder / item.path).parent for item in items}:
        if not folder.resolve().is_relative_to(root):
            raise UsageError(
                f"{folder} is a link that leads out of {data_folder}; nothing was written; name the folder itself"
            )


def _has_same_content(path: Path, item: Item) -> bool:
    return path.is_file() and path.stat().st_size == item.size and compute_crc32(path) == item.compute_crc()


def compute_crc32(path: Path) -> int:
    """The CRC-32 of a file, as zip archives store it."""
    checksum = 0
    with open(path, "rb") as handle:
        while chunk := handle.read(CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise UsageError where fewer than `needed_bytes` are free on the disk of `folder`."""
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise UsageError(
            f"{needed_bytes / 1e9:.2f} GB are needed in {folder}, {free_bytes / 1e9:.2f} GB are free there"
        )


def _write_item(item: Item, data_folder: Path) -> None:
    """Write one file under a temporary name (always the same, so that kills leave one file at most), then rename it."""
    target, temporary = data_folder / item.path, data_folder / WORK_FOLDER / "partial"
    target.parent.mkdir(parents=True, exist_ok=True)
    with item.open_stream() as source, open(temporary, "wb") as handle:
        shutil.copyfileobj(source, handle, CHUNK)
    if temporary.stat().st_size != item.size:
        raise DataError(f"{item.path} has {temporary.stat().st_size} bytes instead of {item.size}; run the same again")
    os.replace(temporary, target)
