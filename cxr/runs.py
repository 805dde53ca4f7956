"""Is a step up to date? Its run.json holds the hashes of all that it was made from."""

import fcntl
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel

from cxr.errors import UsageError
from cxr.files import read_json, write_json
from cxr.paths import ROOT

NOTED = 1 << 20  # bytes from which on a file's digest is noted beside it
PACKAGES = (
    "torch", "torchvision", "timm", "segmentation-models-pytorch", "tensorflow", "keras", "efficientnet",
    "numpy", "scikit-learn", "lightgbm",
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """All that a run's results depend on: equal identities mean equal results."""

    config: dict
    inputs: dict[str, str]
    source: str

    @property
    def hash(self) -> str:
        text = json.dumps([self.config, self.inputs, self.source], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def identity(config: BaseModel, inputs: Iterable[Path], room: str) -> Identity:
    """Identity of a step of `room` (stage1_classify, say): its config, its input files, its source and cxr's."""
    files = {path.name if path.is_dir() else str(Path(*path.parts[-3:])): digest(path) for path in inputs}
    return Identity(config.model_dump(mode="json"), files, source_digest(room))


def is_current(folder: Path, identity: Identity) -> bool:
    """Whether the run in `folder` was made from just this; never, where FORCE=1 is set."""
    record = read_json(folder / "run.json")
    return os.environ.get("FORCE") != "1" and record is not None and record.get("fingerprint") == identity.hash


@contextmanager
def recorded(folder: Path, identity: Identity, seed: int | None = None) -> Iterator[dict]:
    """Run a step in `folder`: one process at a time; run.json is written last, with the metrics put in the dict."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        (folder / "run.json").unlink(missing_ok=True)
        start, metrics = time.perf_counter(), {}
        yield metrics
        record = {
            "fingerprint": identity.hash, "inputs": identity.inputs, "config": identity.config,
            "source": identity.source, "commit": commit(), "versions": versions(), "seed": seed,
            "seconds": round(time.perf_counter() - start, 2), "peak_bytes": peak_bytes(), "metrics": metrics,
        }  # fmt: skip
        write_json(folder / "run.json", record)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; UsageError where another one works in it.

    lockf, not flock: loader processes inherit the latter and would hold it for seconds after a kill -9.
    """
    with open(folder / ".lock", "a+") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            number = handle.read().strip() or "unknown"
            raise UsageError(f"another process ({number}) is working in {folder}; wait for it, or stop it") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def metrics(folder: Path) -> dict | None:
    """The metrics of the finished run in `folder`, None where there is none."""
    record = read_json(folder / "run.json")
    return record and record["metrics"]


def digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, of its files' names, sizes and times. 'absent' where there is none."""
    if path.is_dir():
        return _folder_digest(path)
    if not path.is_file():
        return "absent"
    return _noted_digest(path) if path.stat().st_size >= NOTED else _content_digest(path)


def _folder_digest(folder: Path) -> str:
    found = hashlib.sha256()
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            stat = os.stat(os.path.join(root, name))
            found.update(f"{os.path.relpath(root, folder)}/{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return found.hexdigest()


def _noted_digest(path: Path) -> str:
    """Hash a large file once, and again only when its size or time has changed."""
    note_path = path.with_name(f".{path.name}.digest")
    stat = path.stat()
    seen = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    note = read_json(note_path)
    if note is None or {key: note.get(key) for key in seen} != seen:
        note = seen | {"sha256": _content_digest(path)}
        with suppress(OSError):  # a read-only data folder: hash it anew each time
            write_json(note_path, note)
    return note["sha256"]


def _content_digest(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@cache
def source_digest(room: str) -> str:
    """Hash of the Python files of `room` and of cxr, but for cxr's commands of their own, which no stage imports."""
    found = hashlib.sha256()
    for path in sorted([*(ROOT / "cxr").rglob("*.py"), *(ROOT / room).rglob("*.py")]):
        if room != path.parent.name and (path.parent / "__main__.py").is_file():
            continue
        found.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return found.hexdigest()


def peak_bytes() -> int:
    """The most memory that this process has held at once, without that of its loaders (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@cache
def commit() -> str | None:
    """The project's commit, None outside a git checkout."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, without importing them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
