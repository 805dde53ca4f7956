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

from cxr.digests import digest_file
from cxr.errors import DataError, UsageError
from cxr.files import read_json, write_atomically, write_json
from cxr.paths import ROOT, home_folder

PACKAGES = (
    "torch", "torchvision", "timm", "segmentation-models-pytorch", "tensorflow", "keras", "efficientnet",
    "numpy", "scikit-learn", "lightgbm",
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """All that a run's results depend on: equal identities mean equal results."""

    settings: dict
    inputs: dict[str, str]
    """Digest of each input file; see `digest_inputs`."""
    source: dict[str, str]
    """Digest of each module that it can reach; see `source_code.reached_modules`."""

    @property
    def fingerprint(self) -> str:
        text = json.dumps([self.settings, self.inputs, self.source], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def is_up_to_date(folder: Path, identity: Identity) -> bool:
    """Whether the run in `folder` was made from just this and is whole; never, where FORCE=1 is set."""
    return os.environ.get("FORCE") != "1" and matches_identity(folder, identity)


def matches_identity(folder: Path, identity: Identity) -> bool:
    """Whether the run in `folder` was made from just this, and all that it wrote is still as it was written."""
    record = read_run_record(folder)
    return (
        record is not None
        and record["fingerprint"] == identity.fingerprint
        and not list_altered_outputs(folder, record)
    )


def read_run_record(folder: Path) -> dict | None:
    """The run.json of the finished run in `folder`; None where there is none, or it is cut or of an earlier kind."""
    record = read_json(folder / "run.json")
    return record if record is not None and {"fingerprint", "outputs", "metrics"} <= record.keys() else None


def list_altered_outputs(folder: Path, record: dict) -> list[str]:
    """Files that the run in `folder` wrote and that are missing or changed since, as its record names them."""
    return [name for name, expected in record["outputs"].items() if not _is_unaltered(folder / name, expected)]


def _is_unaltered(path: Path, expected: dict | None) -> bool:
    """Whether a file is as it was noted; of one that the user may edit (None), whether it is JSON."""
    if expected is None:
        return read_json(path) is not None
    return path.is_file() and path.stat().st_size == expected["bytes"] and digest_file(path) == expected["sha256"]


def require_unaltered(inputs: Iterable[Path]) -> None:
    """UsageError where a file that another step wrote is missing or changed since; says how to make it again."""
    for path in inputs:
        record = read_run_record(path.parent)
        if record and path.name in record["outputs"] and not _is_unaltered(path, record["outputs"][path.name]):
            rerun_hint = f", or by its step alone: python -m {record['command']}" if record.get("command") else ""
            raise UsageError(
                f"{path} is missing, cut or changed since it was made; it is made again by: bash run_all.sh{rerun_hint}"
            )


@contextmanager
def name_damaged_inputs(inputs: Iterable[Path]) -> Iterator[None]:
    """If the work raises and one of `inputs` was altered, raise UsageError that names that file instead."""
    try:
        yield
    except (UsageError, DataError):
        raise
    except Exception:
        require_unaltered(inputs)
        raise


@contextmanager
def record_run(
    folder: Path, identity: Identity, seed: int | None = None, outputs: Iterable[Path] = (),
    editable_outputs: Iterable[Path] = (), command: Iterable[str] = (),
) -> Iterator[dict]:  # fmt: skip
    """Run a step in `folder`: one process at a time; run.json is written last, with the metrics put in the dict.

    folder: of the step; made where it is missing.
    identity: what the step is made from: settings, inputs, source.
    seed: of the step's random numbers, for the record.
    outputs: the files that it may write.
    editable_outputs: JSON files among them that a user may change afterwards.
    command: module and arguments of the `python -m` that makes them.

    Yields the dict of metrics. Raises UsageError where another process works in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        (folder / "run.json").unlink(missing_ok=True)
        start_time, metrics = time.perf_counter(), {}
        yield metrics
        record = {
            "fingerprint": identity.fingerprint, "command": shlex.join(command), "inputs": identity.inputs,
            "config": identity.settings, "source": identity.source, "commit": git_commit(),
            "versions": package_versions(), "seed": seed, "seconds": round(time.perf_counter() - start_time, 2),
            "peak_bytes": peak_memory_bytes(), "metrics": metrics,
            "outputs": digest_outputs(folder, outputs) | dict.fromkeys(_relative_names(folder, editable_outputs)),
            "as_made": digest_outputs(folder, editable_outputs),
        }  # fmt: skip
        write_json(folder / "run.json", record)


def digest_outputs(folder: Path, outputs: Iterable[Path]) -> dict[str, dict]:
    """Bytes and digest of the files of `outputs` that there are, by their names seen from `folder`."""
    outputs = [path for path in outputs if path.is_file()]
    output_facts = [{"bytes": path.stat().st_size, "sha256": digest_file(path)} for path in outputs]
    return dict(zip(_relative_names(folder, outputs), output_facts, strict=True))


def keep_edited_outputs(folder: Path, editable_outputs: Iterable[Path]) -> list[Path]:
    """Copy each edited file to <stem>.before<suffix> beside it; returns the paths of the copies."""
    facts_as_made, copies = (read_run_record(folder) or {}).get("as_made", {}), []
    for path in editable_outputs:
        if path.is_file() and digest_file(path) != (facts_as_made.get(os.path.relpath(path, folder)) or {}).get(
            "sha256"
        ):
            copies.append(path.with_name(f"{path.stem}.before{path.suffix}"))
            with write_atomically(copies[-1]) as temporary:
                shutil.copyfile(path, temporary)
    return copies


def renew_outputs(folder: Path, outputs: Iterable[Path]) -> None:
    """Note anew what a later command has written in place of the finished run's `outputs`."""
    record = read_run_record(folder)
    if record is not None:
        write_json(folder / "run.json", record | {"outputs": record["outputs"] | digest_outputs(folder, outputs)})


def _relative_names(folder: Path, paths: Iterable[Path]) -> list[str]:
    return [os.path.relpath(path, folder) for path in paths]


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; UsageError where another one works in it.

    lockf, not flock: loader processes inherit the latter and would hold it for seconds after a kill -9.
    """
    with open(folder / ".lock", "a+") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            pid = handle.read().strip() or "unknown"
            raise UsageError(f"another process ({pid}) is working in {folder}; wait for it, or stop it") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def read_metrics(folder: Path) -> dict | None:
    """The metrics of the finished run in `folder`, None where there is none."""
    record = read_json(folder / "run.json")
    return record and record.get("metrics")


def digest_inputs(paths: Iterable[Path], folder: Path) -> dict[str, str]:
    """Digest of each file that a step in `folder` reads.

    Files of the same dataset are named as `folder` sees them, all others by their bare names: what folders are called,
    and where they lie, changes no result. A repeated name gets ' (another)' added.
    """
    digests: dict[str, str] = {}
    for path in paths:
        name = _input_name(path, folder)
        while name in digests:
            name += " (another)"
        digests[name] = digest_file(path)
    return digests


def _input_name(path: Path, folder: Path) -> str:
    artifacts_folder = home_folder() / "artifacts"
    dataset_folder = folder
    if artifacts_folder in folder.parents:
        dataset_folder = artifacts_folder / folder.relative_to(artifacts_folder).parts[0]
    return os.path.relpath(path, folder) if dataset_folder in path.parents else path.name


def peak_memory_bytes() -> int:
    """The most memory that this process has held at once, without that of its loaders (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@cache
def git_commit() -> str | None:
    """The project's commit, None outside a git checkout."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return completed.stdout.strip() or None


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, without importing them."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
