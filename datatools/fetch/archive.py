"""Zip archives: refused as a whole where one entry could do harm, else unpacked; existing files are left alone."""

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from cxr.errors import DataError, UsageError
from datatools.fetch.data_folder import WORK_FOLDER, Item, check_names, is_wanted, place_files, plain_path

MAX_RATIO = 100  # of unpacked to packed size; DICOM files with JPEGs have 1, tables of run-length codes 5
HARMLESS_BYTES = 1 << 30  # unpacked size below which the ratio does not matter
MAX_ENTRIES = 1_000_000
ENCRYPTED_FLAG = 1  # bit 0 of an entry's flags (APPNOTE 4.4.4)
# Not bzip2 and LZMA: zipfile unpacks their chunks without a limit, whatever size an entry declares.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def unpack_archive(path: Path, data_folder: Path, name: str, subfolder: str = "") -> list[Item]:
    """Bring the DICOM files and tables of a zip into the data folder; a zip inside it is unpacked, too.

    path: the zip file
    data_folder: where its files go, in the same folders
    name: what messages call the zip
    subfolder: of the data folder, into which the files go, ending in '/'; '' for the data folder itself

    Returns all its files, also those that were there. Raises DataError that names the entry where the archive is
    hostile or damaged, UsageError where other files are in the way or the disk is too full.
    """
    with _open_archive(path, name) as archive:
        entries = _select_entries(archive, path.stat().st_size, name)
        files = [info for info in entries if not _is_archive(info)]
        items = [_build_entry_item(archive, info, subfolder) for info in files]
        place_files(items, data_folder, f"unpack {name}")
        for info in filter(_is_archive, entries):
            items += _unpack_inner(archive, info, data_folder, name, subfolder)
        skipped_count = sum(not info.is_dir() for info in archive.infolist()) - len(entries)
    if skipped_count:
        print(f"{name}: {skipped_count} files that are neither DICOM nor CSV are left out")
    return items


@contextmanager
def _open_archive(path: Path, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{name} is no whole zip archive ({error}); fetch it again") from None


def _select_entries(archive: zipfile.ZipFile, packed_bytes: int, name: str) -> list[zipfile.ZipInfo]:
    """The entries to unpack; only these are checked. Raises DataError for the first that is refused."""
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise DataError(f"{name} is refused, nothing was written: it has {len(entries)} entries")
    entries = [info for info in entries if is_wanted(_entry_path(info)) or _is_archive(info)]
    check_names(map(_entry_path, entries), name)
    for info in entries:
        reason = _explain_refusal(info)
        if reason:
            raise DataError(f"{name} is refused, nothing was written: entry {info.filename!r} {reason}")
    _check_size(entries, packed_bytes, name)
    return entries


def _check_size(entries: list[zipfile.ZipInfo], packed_bytes: int, name: str) -> None:
    unpacked_bytes = sum(info.file_size for info in entries)
    if unpacked_bytes > max(HARMLESS_BYTES, MAX_RATIO * packed_bytes):
        largest = max(entries, key=lambda info: info.file_size).filename
        raise DataError(
            f"{name} is refused, nothing was written: {packed_bytes} bytes would become {unpacked_bytes}, more than "
            f"{MAX_RATIO} times as many; its largest entry is {largest!r}"
        )


def _explain_refusal(info: zipfile.ZipInfo) -> str | None:
    """Why an entry is refused; None where it is not."""
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made without Unix modes
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder"
    if info.flag_bits & ENCRYPTED_FLAG:
        return "is encrypted"
    return None if info.compress_type in METHODS else f"is packed by method {info.compress_type}; only deflate is read"


def _entry_path(info: zipfile.ZipInfo) -> str:
    """Where an entry goes: its full name (also after a NUL byte), as `plain_path` gives it; a folder's ends in '/'."""
    return plain_path(info.orig_filename) + "/" * info.orig_filename.endswith(("/", "\\"))


def _is_archive(info: zipfile.ZipInfo) -> bool:
    return is_wanted(_entry_path(info), (".zip",))


def _build_entry_item(archive: zipfile.ZipFile, info: zipfile.ZipInfo, subfolder: str) -> Item:
    return Item(subfolder + _entry_path(info), info.file_size, lambda: info.CRC, partial(archive.open, info))


def _unpack_inner(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, data_folder: Path, name: str, subfolder: str
) -> list[Item]:
    """Unpack a zip inside a zip into a folder of its name: Kaggle packs each folder of a competition as a zip."""
    inner_name = f"{name}/{_entry_path(info)}"
    if subfolder:
        raise UsageError(f"{inner_name} is an archive in an archive in an archive: unpack {name} yourself")
    inner_path = f"{WORK_FOLDER}/inner.zip"
    (data_folder / inner_path).unlink(missing_ok=True)  # left by a run that was killed
    place_files([replace(_build_entry_item(archive, info, ""), path=inner_path)], data_folder, f"unpack {inner_name}")
    try:
        return unpack_archive(data_folder / inner_path, data_folder, inner_name, _entry_path(info)[:-4] + "/")
    finally:
        (data_folder / inner_path).unlink()
