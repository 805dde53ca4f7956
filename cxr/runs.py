"""Is a step up to date? Its run.json holds the digests of all that it was made from, and of what it wrote."""

import fcntl
import hashlib
import json
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cxr.digests import digest
from cxr.errors import DataError, UsageError
from cxr.files import read_json, replacing, write_json
from cxr.paths import ROOT, home

PACKAGES = (
    "torch", "torchvision", "timm", "segmentation-models-pytorch", "tensorflow", "keras", "efficientnet",
    "numpy", "scikit-learn", "lightgbm",
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """All that a run's results depend on: equal identities mean equal results."""

    config: dict
    inputs: dict[str, str]
    """Digest of each input file; see `input_digests`."""
    source: dict[str, str]
    """Digest of each module that it can reach; see `source_code.reached_modules`."""

    @property
    def hash(self) -> str:
        text = json.dumps([self.config, self.inputs, self.source], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def is_current(folder: Path, identity: Identity) -> bool:
    """Whether the run in `folder` was made from just this and is whole; never, where FORCE=1 is set."""
    return os.environ.get("FORCE") != "1" and is_made(folder, identity)


def is_made(folder: Path, identity: Identity) -> bool:
    """Whether the run in `folder` was made from just this, and all that it wrote is still as it was written."""
    record = read_record(folder)
    return record is not None and record["fingerprint"] == identity.hash and not altered(folder, record)


def read_record(folder: Path) -> dict | None:
    """The run.json of the finished run in `folder`; None where there is none, or it is cut or of an earlier kind."""
    record = read_json(folder / "run.json")
    return record if record is not None and {"fingerprint", "outputs", "metrics"} <= record.keys() else None


def altered(folder: Path, record: dict) -> list[str]:
    """Files that the run in `folder` wrote and that are missing or changed since, as its record names them."""
    return [name for name, noted in record["outputs"].items() if not _is_whole(folder / name, noted)]


def _is_whole(path: Path, noted: dict | None) -> bool:
    """Whether a file is as it was noted; of one that the user may edit (None), whether it is JSON."""
    if noted is None:
        return read_json(path) is not None
    return path.is_file() and path.stat().st_size == noted["bytes"] and digest(path) == noted["sha256"]


def require_whole(inputs: Iterable[Path]) -> None:
    """UsageError where a file that another step wrote is missing or changed since; says how to make it again."""
    for path in inputs:
        record = read_record(path.parent)
        if record and path.name in record["outputs"] and not _is_whole(path, record["outputs"][path.name]):
            alone = f", or by its step alone: python -m {record['command']}" if record.get("command") else ""
            raise UsageError(
                f"{path} is missing, cut or changed since it was made; it is made again by: bash run_all.sh{alone}"
            )


@contextmanager
def damage_named(inputs: Iterable[Path]) -> Iterator[None]:
    """Where work fails with a traceback, but a file that it reads is not as it was written: the error that names it."""
    try:
        yield
    except (UsageError, DataError):
        raise
    except Exception:
        require_whole(inputs)
        raise


@contextmanager
def recorded(
    folder: Path, identity: Identity, seed: int | None = None, outputs: Iterable[Path] = (),
    editable: Iterable[Path] = (), command: Iterable[str] = (),
) -> Iterator[dict]:  # fmt: skip
    """Run a step in `folder`: one process at a time; run.json is written last, with the metrics put in the dict.

    outputs: the files that it may write; editable: of JSON, which a user may change afterwards; command: what
    `python -m` makes them by.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        (folder / "run.json").unlink(missing_ok=True)
        start, metrics = time.perf_counter(), {}
        yield metrics
        record = {
            "fingerprint": identity.hash, "command": shlex.join(command), "inputs": identity.inputs,
            "config": identity.config, "source": identity.source, "commit": commit(), "versions": versions(),
            "seed": seed, "seconds": round(time.perf_counter() - start, 2), "peak_bytes": peak_bytes(),
            "metrics": metrics, "outputs": written(folder, outputs) | dict.fromkeys(_names(folder, editable)),
            "as_made": written(folder, editable),
        }  # fmt: skip
        write_json(folder / "run.json", record)


def written(folder: Path, outputs: Iterable[Path]) -> dict[str, dict]:
    """Bytes and digest of the files of `outputs` that there are, by their names seen from `folder`."""
    outputs = [path for path in outputs if path.is_file()]
    facts = [{"bytes": path.stat().st_size, "sha256": digest(path)} for path in outputs]
    return dict(zip(_names(folder, outputs), facts, strict=True))


def keep_edited(folder: Path, editable: Iterable[Path]) -> list[Path]:
    """Copies, beside them, of those `editable` files that are not as the run in `folder` made them; their paths."""
    made, copies = (read_record(folder) or {}).get("as_made", {}), []
    for path in editable:
        if path.is_file() and digest(path) != (made.get(os.path.relpath(path, folder)) or {}).get("sha256"):
            copies.append(path.with_name(f"{path.stem}.before{path.suffix}"))
            with replacing(copies[-1]) as temporary:
                shutil.copyfile(path, temporary)
    return copies


def renew_outputs(folder: Path, outputs: Iterable[Path]) -> None:
    """Note anew what a later command has written in place of the finished run's `outputs`."""
    record = read_record(folder)
    if record is not None:
        write_json(folder / "run.json", record | {"outputs": record["outputs"] | written(folder, outputs)})


def _names(folder: Path, paths: Iterable[Path]) -> list[str]:
    return [os.path.relpath(path, folder) for path in paths]


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
    return record and record.get("metrics")


def input_digests(paths: Iterable[Path], folder: Path) -> dict[str, str]:
    """Digest of each file that a step in `folder` reads.

    Files of the same dataset are named as `folder` sees them, all others by their bare names: what folders are called,
    and where they lie, changes no result. Of several of one name each has its own place.
    """
    found: dict[str, str] = {}
    for path in paths:
        name = _name_of_input(path, folder)
        while name in found:
            name += " (another)"
        found[name] = digest(path)
    return found


def _name_of_input(path: Path, folder: Path) -> str:
    everything = home() / "artifacts"
    dataset = everything / folder.relative_to(everything).parts[0] if everything in folder.parents else folder
    return os.path.relpath(path, folder) if dataset in path.parents else path.name


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
