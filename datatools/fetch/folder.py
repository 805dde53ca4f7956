"""A folder as the source: its DICOM files and tables are copied or linked."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cxr.errors import UsageError
from datatools.fetch.data_folder import Item, compute_crc32, find_missing_items, is_wanted, place_files


def bring_folder(source: Path, data_folder: Path, should_link: bool) -> None:
    """Copy or link the DICOM files and tables of `source` into `data_folder`, in the same folders.

    Raises UsageError where one of the two folders lies in the other, or other files are in the way.
    """
    source_root, data_root = source.resolve(), data_folder.resolve()
    if source_root.is_relative_to(data_root) or data_root.is_relative_to(source_root):
        raise UsageError(f"{source} and {data_folder} lie in one another; name a folder outside with --into")
    items = [_build_file_item(source, path) for path in sorted(_list_wanted_files(source))]
    if not should_link:
        place_files(items, data_folder, f"copy {source.name}")
        return
    missing_items = find_missing_items(items, data_folder)
    for item in missing_items:
        (data_folder / item.path).parent.mkdir(parents=True, exist_ok=True)
        (data_folder / item.path).symlink_to(source.resolve() / item.path)
    print(f"link {source.name}: {len(missing_items)} files linked, {len(items) - len(missing_items)} were there")


def _list_wanted_files(source: Path) -> Iterator[str]:
    """Paths relative to `source` of the files that the project reads; each linked folder is followed once only."""
    visited_folders = set()
    for root, folders, files in os.walk(source, followlinks=True, onerror=_report_skipped):
        if os.path.realpath(root) in visited_folders:
            folders.clear()
            continue
        visited_folders.add(os.path.realpath(root))
        relative_root = Path(root).relative_to(source)
        for path in ((relative_root / name).as_posix() for name in files):
            if is_wanted(path) and (source / path).is_file():
                yield path
            elif is_wanted(path):
                print(f"passed over: {path} (not a regular file, or a link to nothing)")


def _report_skipped(error: OSError) -> None:
    print(f"passed over: {error.filename} ({error.strerror})")


def _build_file_item(source: Path, path: str) -> Item:
    file = source / path
    return Item(path, file.stat().st_size, partial(compute_crc32, file), partial(open, file, "rb"))
