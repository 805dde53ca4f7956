"""Digests of files: small files are hashed every time, digests of large ones are cached."""

import hashlib
from contextlib import suppress
from pathlib import Path

from cxr.files import read_json, write_json
from cxr.paths import home_folder

MIN_CACHED_BYTES = 1 << 20  # bytes from which on a digest is noted


def digest_file(path: Path) -> str:
    """SHA-256 of a file; 'absent' where there is none."""
    if not path.is_file():
        return "absent"
    return _cached_digest(path) if path.stat().st_size >= MIN_CACHED_BYTES else _compute_digest(path)


def _cached_digest(path: Path) -> str:
    """Read a large file once, and again only when its size or time has changed."""
    stat, note_path = path.stat(), digest_note_path(path)
    file_facts = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    note = read_json(note_path) or {}
    if note.get("sha256") and {key: note.get(key) for key in file_facts} == file_facts:
        return note["sha256"]
    note = file_facts | {"sha256": _compute_digest(path)}
    with suppress(OSError):  # nowhere to write: read it anew each time
        write_json(note_path, note)
    return note["sha256"]


def digest_note_path(path: Path) -> Path:
    """Where the digest of a large file is noted: with what runs write, never beside a user's files.

    What lies in the same home as the note is known by its place there, so that a home can be moved.
    """
    path = path.resolve()
    home_relative_path = path.relative_to(home_folder()) if path.is_relative_to(home_folder()) else path
    return (
        home_folder() / "artifacts" / ".digests" / f"{hashlib.sha256(bytes(home_relative_path)).hexdigest()[:32]}.json"
    )


def _compute_digest(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
