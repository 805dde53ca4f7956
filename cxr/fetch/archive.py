"""Zip archives: refused whole where one entry could do harm, else unpacked, what is there already left alone."""

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from cxr.errors import DataError, UsageError
from cxr.fetch.place import WORK, Item, check_names, is_wanted, place, plain_path

RATIO = 100  # unpacked to packed; JPEG in DICOM has 1, tables of run-length codes 5
HARMLESS = 1 << 30  # bytes unpacked below which no ratio matters
MOST_ENTRIES = 1_000_000
ENCRYPTED = 1  # bit 0 of an entry's flags (APPNOTE 4.4.4)
# Not bzip2 and LZMA: zipfile unpacks their chunks without a limit, whatever size an entry claims to have.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def unpack(path: Path, into: Path, name: str, below: str = "") -> list[Item]:
    """Bring the DICOM files and tables of a zip into `into`/`below`; an archive in the archive is unpacked, too.

    Returns all of them. Raises DataError that names the entry where the archive is hostile or damaged.
    """
    with _opened(path, name) as archive:
        entries = _checked(archive, path.stat().st_size, name)
        files = [info for info in entries if not _is_archive(info)]
        items = [_item(archive, info, below) for info in files]
        place(items, into, f"unpack {name}")
        for info in filter(_is_archive, entries):
            items += _unpack_inner(archive, info, into, name, below)
        others = sum(not info.is_dir() for info in archive.infolist()) - len(entries)
    if others:
        print(f"{name}: {others} files that are neither DICOM nor CSV are left out")
    return items


@contextmanager
def _opened(path: Path, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{name} is no whole zip archive ({error}); fetch it again") from None


def _checked(archive: zipfile.ZipFile, packed: int, name: str) -> list[zipfile.ZipInfo]:
    """The entries that are to be unpacked, which alone are judged. Raises DataError for the first that is refused."""
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise DataError(f"{name} is refused, nothing was written: it has {len(entries)} entries")
    entries = [info for info in entries if is_wanted(_path(info)) or _is_archive(info)]
    check_names(map(_path, entries), name)
    for info in entries:
        reason = _refusal(info)
        if reason:
            raise DataError(f"{name} is refused, nothing was written: entry {info.filename!r} {reason}")
    _check_size(entries, packed, name)
    return entries


def _check_size(entries: list[zipfile.ZipInfo], packed: int, name: str) -> None:
    total = sum(info.file_size for info in entries)
    if total > max(HARMLESS, RATIO * packed):
        largest = max(entries, key=lambda info: info.file_size).filename
        raise DataError(
            f"{name} is refused, nothing was written: {packed} bytes would become {total}, more than {RATIO} times "
            f"as many; its largest entry is {largest!r}"
        )


def _refusal(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made without Unix modes
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder"
    if info.flag_bits & ENCRYPTED:
        return "is encrypted"
    return None if info.compress_type in METHODS else f"is packed by method {info.compress_type}; only deflate is read"


def _path(info: zipfile.ZipInfo) -> str:
    """Where an entry goes: its name as it was written, NUL bytes and all, in plain form; a folder's is no file's."""
    return plain_path(info.orig_filename) + "/" * info.orig_filename.endswith(("/", "\\"))


def _is_archive(info: zipfile.ZipInfo) -> bool:
    return is_wanted(_path(info), (".zip",))


def _item(archive: zipfile.ZipFile, info: zipfile.ZipInfo, below: str) -> Item:
    return Item(below + _path(info), info.file_size, lambda: info.CRC, partial(archive.open, info))


def _unpack_inner(archive: zipfile.ZipFile, info: zipfile.ZipInfo, into: Path, name: str, below: str) -> list[Item]:
    """Kaggle packs folders of a competition as archives of their own; these go into a folder of their name."""
    inner = f"{name}/{_path(info)}"
    if below:
        raise UsageError(f"{inner} is an archive in an archive in an archive: unpack {name} yourself")
    file = f"{WORK}/inner.zip"
    (into / file).unlink(missing_ok=True)  # of a run that was killed
    place([replace(_item(archive, info, ""), path=file)], into, f"unpack {inner}")
    try:
        return unpack(into / file, into, inner, _path(info)[:-4] + "/")
    finally:
        (into / file).unlink()
