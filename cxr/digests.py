"""Digests of files: of small ones taken each time, of large ones noted, so that they are read but once."""

import hashlib
from contextlib import suppress
from pathlib import Path

from cxr.files import read_json, write_json
from cxr.paths import home

NOTED = 1 << 20  # bytes from which on a digest is noted


def digest(path: Path) -> str:
    """SHA-256 of a file; 'absent' where there is none."""
    if not path.is_file():
        return "absent"
    return _noted(path) if path.stat().st_size >= NOTED else _taken(path)


def _noted(path: Path) -> str:
    """Read a large file once, and again only when its size or time has changed."""
    stat, place = path.stat(), note_of(path)
    facts = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    note = read_json(place) or {}
    if note.get("sha256") and {key: note.get(key) for key in facts} == facts:
        return note["sha256"]
    note = facts | {"sha256": _taken(path)}
    with suppress(OSError):  # nowhere to write: read it anew each time
        write_json(place, note)
    return note["sha256"]


def note_of(path: Path) -> Path:
    """Where the digest of a large file is noted: with what runs write, never beside a user's files.

    What lies in the same home as the note is known by its place there, so that a home can be moved.
    """
    path = path.resolve()
    where = path.relative_to(home()) if path.is_relative_to(home()) else path
    return home() / "artifacts" / ".digests" / f"{hashlib.sha256(bytes(where)).hexdigest()[:32]}.json"


def _taken(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
