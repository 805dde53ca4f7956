"""Start weights: which file a network starts from, and what its network wants of its input. No hub is asked here.

A file is looked for in the folder WEIGHTS, in the project's weights/, and, where a hub has it, in what an earlier
resolution fetched (artifacts/weights/). A stage's `check` fetches, once and before any unit; units only load files.
"""

import json
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cxr import runs
from cxr.errors import UsageError
from cxr.files import read_json, write_atomically, write_json
from cxr.paths import ROOT, home_folder, resolve_user_path

RANDOM = "random"
PRETRAINED = ("imagenet", "coco")  # `weights:` that a hub has
HUBS = ("timm", "smp", "keras", "torchvision")
TORCH_SUFFIXES, KERAS_SUFFIXES = (".safetensors",), (".keras", ".h5")
HUB_TIMEOUT = 10  # seconds without an answer from a hub
TENSORFLOW_SOURCE = re.compile(r"tensorflow|tflite", re.IGNORECASE)
PUT_HINT = "; put "
MISSING_WEIGHTS = (
    "weights: say where it starts: imagenet, random, or the name of a file in the folder WEIGHTS or in weights/"
)


class ExpectedInput(NamedTuple):
    """What a network wants of its input: mean and deviation of gray values in 0..1, padding of its convolutions."""

    mean: float = 0.449  # ImageNet's, over the colours
    std: float = 0.226
    pad_type: str = ""
    """'same' of networks born in TensorFlow; '': the backbone's own."""


@dataclass(frozen=True)
class StartWeights:
    """What a network starts from."""

    weights: str | None
    """As in its YAML: random, imagenet, coco, or a file's name; None is random, too."""
    network: str = ""
    """Its name in the library `hub`."""
    hub: str = ""
    """Which of HUBS is asked for imagenet and coco."""

    @property
    def is_random(self) -> bool:
        return self.weights in (None, RANDOM)

    @property
    def suffixes(self) -> tuple[str, ...]:
        return KERAS_SUFFIXES if self.hub == "keras" else TORCH_SUFFIXES

    @property
    def min_tensor_share(self) -> float:
        """Share of the backbone's tensors that its file has to hold."""
        return 1.0 if self.weights in PRETRAINED else 0.5

    @property
    def file_stem(self) -> str:
        """The file's, without its ending."""
        return f"{self.network}_{self.weights}" if self.weights in PRETRAINED else str(self.weights)

    @property
    def download_path(self) -> Path | None:
        """Where what a hub gives is written."""
        folder = home_folder() / "artifacts" / "weights" / self.hub
        return folder / f"{self.file_stem}{self.suffixes[-1]}" if self.weights in PRETRAINED else None

    @property
    def existing_file(self) -> Path | None:
        """The file to load; None where there is none, or none is wanted."""
        if self.is_random:
            return None
        return look_up_weights(self.file_stem, self.suffixes) or (
            self.download_path if self.download_path and _is_complete(self.download_path) else None
        )

    @property
    def input_files(self) -> tuple[Path, ...]:
        """Of the unit that starts so: the file, or the one that is missing."""
        missing_path = self.download_path or ROOT / "weights" / f"{self.file_stem}{self.suffixes[0]}"
        return () if self.is_random else (self.existing_file or missing_path,)


def _is_complete(path: Path) -> bool:
    """Whether a file that a hub gave is there, and as long as it was noted; one that a user put there has no note."""
    note = read_json(_note_path(path))
    return path.is_file() and (note is None or note.get("bytes") == path.stat().st_size)


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def look_up_weights(name: str, suffixes: tuple[str, ...] = TORCH_SUFFIXES) -> Path | None:
    """The file `name` in the folder WEIGHTS, else in the project's weights/; None where there is none."""
    folders = [*([_user_weights_folder()] if _user_weights_folder() else []), ROOT / "weights"]
    candidates = [folder / f"{name}{suffix}" for folder in folders for suffix in suffixes]
    return next((path for path in candidates if path.is_file()), None)


def require_weights_file(start: StartWeights) -> Path:
    """The file to start from; UsageError says which one to put where."""
    if start.existing_file is None:
        raise UsageError(
            _advise_placing_file(start, "it is in no folder") if start.download_path else _describe_missing_file(start)
        )
    return start.existing_file


def list_missing_weights(inputs: Iterable[Path]) -> list[Path]:
    """The start weights among a unit's inputs that are on this machine in no folder."""
    folders = {ROOT / "weights", *(home_folder() / "artifacts" / "weights" / hub for hub in HUBS)}
    return [path for path in inputs if path.parent in folders
            and not (path.is_file() if path.parent == ROOT / "weights" else _is_complete(path))]  # fmt: skip


class DownloadError(UsageError):
    """A hub did not give what it has: for want of a network, say."""


def resolve_or_report(resolve: Callable[..., None], *arguments) -> None:
    """Call `resolve`; what a hub does not give is only said, and the plan then names all that is missing at once."""
    try:
        resolve(*arguments)
    except DownloadError as error:
        print(str(error).partition(PUT_HINT)[0], flush=True)


def fetch_weights(start: StartWeights, download: Callable[[StartWeights, Path], None]) -> None:
    """Have `download(start, file)` write what the hub gives, where no folder has the file; UsageError if it cannot."""
    if start.is_random or start.existing_file:
        return
    if not start.download_path:
        raise UsageError(_describe_missing_file(start))
    print(f"start weights: asking {start.hub} for {start.file_stem}", flush=True)
    try:
        with write_atomically(start.download_path) as temporary, _hub_timeout():
            download(start, temporary)
            write_json(_note_path(start.download_path), {"bytes": temporary.stat().st_size})
    except UsageError:
        raise
    except Exception as error:  # the hubs' clients raise many kinds
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
        raise DownloadError(_advise_placing_file(start, f"the hub ({start.hub}) gives none ({reason})")) from None


def record_start(start: StartWeights) -> dict[str, str]:
    """For run.json: the name that was asked for, the file, its digest, whose it is, and the source that it names."""
    if start.is_random:
        return {"name": RANDOM}
    path = require_weights_file(start)
    start_record = {
        "name": start.weights,
        "file": path.name,
        "sha256": runs.digest_file(path),
        "origin": weights_origin(path),
    }
    return start_record | ({"source": str(_file_metadata(path)["source"])} if "source" in _file_metadata(path) else {})


def weights_origin(path: Path) -> str:
    """Whose a file is: of the folder WEIGHTS, of the project, or of a hub."""
    owners = {"project": ROOT / "weights", "WEIGHTS": _user_weights_folder()}
    return next((name for name, folder in owners.items() if folder and path.is_relative_to(folder)), "hub")


def read_expected_input(path: Path) -> ExpectedInput | None:
    """What a file says of its network's input, in its metadata (weights/README.md); None where it says nothing."""
    metadata = _file_metadata(path)
    if TENSORFLOW_SOURCE.search(str(metadata.get("source", ""))) and not {"mean", "std", "pad_type"} & metadata.keys():
        return ExpectedInput(0.5, 0.5, "same")
    try:
        gray_statistics = {"mean": float(metadata["mean"]), "std": float(metadata["std"])}
    except (KeyError, ValueError, TypeError):
        return None
    return ExpectedInput(**gray_statistics, pad_type=str(metadata.get("pad_type", "")))


def adopt_expected_input(member, start: StartWeights, arguments_field: str):
    """A member with the gray values and the padding that its start wants where its YAML is silent.

    member: settings with `mean`, `std` and the network's arguments, a dict in `arguments_field`, which takes the
    padding; returned as a changed copy. Where the start weights are missing nobody knows what they want, and the
    member stays as it is.
    """
    has_weights_file = not start.is_random and start.hub != "keras"
    if has_weights_file and start.existing_file is None:
        return member
    expected = (has_weights_file and read_expected_input(start.existing_file)) or ExpectedInput()
    changes = {key: getattr(expected, key) for key in ("mean", "std") if getattr(member, key) is None}
    network_arguments = getattr(member, arguments_field)
    if expected.pad_type and "pad_type" not in network_arguments:
        changes[arguments_field] = network_arguments | {"pad_type": expected.pad_type}
    return member.model_copy(update=changes) if changes else member


def list_input_conflicts(member, start: StartWeights, arguments_field: str) -> list[str]:
    """Where a member's settings, before `adopt_expected_input`, may not fit its start weights.

    To be told before it trains.
    """
    if start.existing_file is None or start.hub == "keras":
        return []
    expected, configured = (
        read_expected_input(start.existing_file),
        ExpectedInput(member.mean, member.std, getattr(member, arguments_field).get("pad_type", "")),
    )
    if expected is None and None not in configured:
        return []
    if expected is None:
        assumed_text = f"mean {ExpectedInput().mean:g}, std {ExpectedInput().std:g}"
        advice = "say it in its metadata or in the YAML (weights/README.md)"
        return [
            f"{start.existing_file.name} does not say what its network wants of its input: {assumed_text} are taken; "
            f"{advice}"
        ]
    pairs = zip(ExpectedInput._fields, expected, configured, strict=True)
    differences = [
        f"{key} {configured_value}, not {expected_value or 'none'}"
        for key, expected_value, configured_value in pairs
        if configured_value not in (None, "", expected_value)
    ]
    return (
        [f"{start.existing_file.name} wants other than the YAML says, which is kept: {'; '.join(differences)}"]
        if differences
        else []
    )


def describe_start(member, start: StartWeights, arguments_field: str) -> str:
    """In a line: the file, whose it is, and how its network sees the images."""
    padding = getattr(member, arguments_field).get("pad_type")
    input_text = f"mean {member.mean:g}, std {member.std:g}{f', pad_type {padding}' if padding else ''}"
    source = _file_metadata(start.existing_file).get("source")
    origin = f"{weights_origin(start.existing_file)}{f': {source}' if source else ''}"
    return f"{start.existing_file.name} ({origin}); {input_text}"


def _user_weights_folder() -> Path | None:
    return resolve_user_path(os.environ["WEIGHTS"]) if os.environ.get("WEIGHTS") else None


def _describe_missing_file(start: StartWeights) -> str:
    files = " or ".join(f"{start.file_stem}{suffix}" for suffix in start.suffixes)
    return (
        f"weights '{start.weights}' are not in {_user_weights_folder() or 'the folder WEIGHTS (not set)'} "
        f"nor in {ROOT / 'weights'}; "
        f"expected {files} (`weights: imagenet` asks the hub instead, `weights: {RANDOM}` needs none)"
    )


def _advise_placing_file(start: StartWeights, reason: str) -> str:
    files = " or ".join(f"{start.file_stem}{suffix}" for suffix in start.suffixes)
    folder = _user_weights_folder() or "a folder, and name it: WEIGHTS=<folder>"
    return (
        f"{start.weights}: {reason}{PUT_HINT}{files} into {folder} "
        f"(weights/README.md tells what it holds), or write `weights: {RANDOM}`"
    )


def _file_metadata(path: Path) -> dict:
    """A safetensors file's metadata, with what its key 'input' holds in JSON; {} of another kind of file."""
    stat = path.stat()
    return _read_metadata(path, stat.st_mtime_ns, stat.st_size) if path.suffix in TORCH_SUFFIXES else {}


@cache
def _read_metadata(path: Path, _time: int, size: int) -> dict:
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            metadata = json.loads(file.read(length)) if length <= size else {}
        metadata = metadata.get("__metadata__", {})
        return metadata | json.loads(metadata.get("input", "{}"))
    except (ValueError, AttributeError, TypeError):
        raise UsageError(f"{path} is no safetensors file; get it anew (weights/README.md)") from None


@contextmanager
def _hub_timeout() -> Iterator[None]:
    previous_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(HUB_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous_timeout)
