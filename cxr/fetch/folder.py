"""A folder as the source: its DICOM files and tables copied, or linked."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cxr.errors import UsageError
from cxr.fetch.place import Item, absent, crc32, is_wanted, place


def bring(source: Path, into: Path, link: bool) -> None:
    """Copy or link what the project reads of `source` into `into`, in the same folders.

    Raises UsageError where one of the two folders lies in the other.
    """
    one, other = source.resolve(), into.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise UsageError(f"{source} and {into} lie in one another; name a folder outside with --into")
    items = [_item(source, path) for path in sorted(_files(source))]
    if not link:
        place(items, into, f"copy {source.name}")
        return
    missing = absent(items, into)
    for item in missing:
        (into / item.path).parent.mkdir(parents=True, exist_ok=True)
        (into / item.path).symlink_to(source.resolve() / item.path)
    print(f"link {source.name}: {len(missing)} files linked, {len(items) - len(missing)} were there")


def _files(source: Path) -> Iterator[str]:
    """What the project reads, seen from `source`; linked folders are followed once, as they can run in circles."""
    seen = set()
    for root, folders, files in os.walk(source, followlinks=True, onerror=_tell):
        if os.path.realpath(root) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(root))
        below = Path(root).relative_to(source)
        for path in ((below / name).as_posix() for name in files):
            if is_wanted(path) and (source / path).is_file():
                yield path
            elif is_wanted(path):
                print(f"passed over: {path} (not a regular file, or a link to nothing)")


def _tell(error: OSError) -> None:
    print(f"passed over: {error.filename} ({error.strerror})")


def _item(source: Path, path: str) -> Item:
    file = source / path
    return Item(path, file.stat().st_size, partial(crc32, file), partial(open, file, "rb"))
