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
from cxr.files import read_json, replacing, write_json
from cxr.paths import ROOT, as_meant, home

RANDOM = "random"
PRETRAINED = ("imagenet", "coco")  # `weights:` that a hub has
HUBS = ("timm", "smp", "keras", "torchvision")
TORCH, KERAS = (".safetensors",), (".keras", ".h5")
PATIENCE = 10  # seconds without an answer from a hub
TENSORFLOW = re.compile(r"tensorflow|tflite", re.IGNORECASE)
PUT = "; put "
MISSING = "weights: say where it starts: imagenet, random, or the name of a file in the folder WEIGHTS or in weights/"


class Input(NamedTuple):
    """What a network wants of its input: mean and deviation of gray values in 0..1, padding of its convolutions."""

    mean: float = 0.449  # ImageNet's, over the colours
    std: float = 0.226
    pad_type: str = ""
    """'same' of networks born in TensorFlow; '': the backbone's own."""


@dataclass(frozen=True)
class Start:
    """What a network starts from."""

    weights: str | None
    """As in its YAML: random, imagenet, coco, or a file's name; None is random, too."""
    network: str = ""
    """Its name in the library `hub`."""
    hub: str = ""
    """Which of HUBS is asked for imagenet and coco."""

    @property
    def random(self) -> bool:
        return self.weights in (None, RANDOM)

    @property
    def kinds(self) -> tuple[str, ...]:
        return KERAS if self.hub == "keras" else TORCH

    @property
    def least(self) -> float:
        """Share of the backbone's tensors that its file has to hold."""
        return 1.0 if self.weights in PRETRAINED else 0.5

    @property
    def name(self) -> str:
        """The file's, without its ending."""
        return f"{self.network}_{self.weights}" if self.weights in PRETRAINED else str(self.weights)

    @property
    def fetched(self) -> Path | None:
        """Where what a hub gives is written."""
        folder = home() / "artifacts" / "weights" / self.hub
        return folder / f"{self.name}{self.kinds[-1]}" if self.weights in PRETRAINED else None

    @property
    def file(self) -> Path | None:
        """The file to load; None where there is none, or none is wanted."""
        if self.random:
            return None
        return look_up(self.name, self.kinds) or (self.fetched if self.fetched and _is_whole(self.fetched) else None)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Of the unit that starts so: the file, or the one that is missing."""
        missing = self.fetched or ROOT / "weights" / f"{self.name}{self.kinds[0]}"
        return () if self.random else (self.file or missing,)


def _is_whole(fetched: Path) -> bool:
    """Whether a file that a hub gave is there, and as long as it was noted; one that a user put there has no note."""
    noted = read_json(_note(fetched))
    return fetched.is_file() and (noted is None or noted.get("bytes") == fetched.stat().st_size)


def _note(fetched: Path) -> Path:
    return fetched.with_name(f"{fetched.name}.json")


def look_up(name: str, kinds: tuple[str, ...] = TORCH) -> Path | None:
    """The file `name` in the folder WEIGHTS, else in the project's weights/; None where there is none."""
    folders = [*([_given()] if _given() else []), ROOT / "weights"]
    candidates = [folder / f"{name}{kind}" for folder in folders for kind in kinds]
    return next((path for path in candidates if path.is_file()), None)


def find(start: Start) -> Path:
    """The file to start from; UsageError says which one to put where."""
    if start.file is None:
        raise UsageError(_advice(start, "it is in no folder") if start.fetched else _nowhere(start))
    return start.file


def lacking(inputs: Iterable[Path]) -> list[Path]:
    """The start weights among a unit's inputs that are on this machine in no folder."""
    folders = {ROOT / "weights", *(home() / "artifacts" / "weights" / hub for hub in HUBS)}
    return [path for path in inputs if path.parent in folders
            and not (path.is_file() if path.parent == ROOT / "weights" else _is_whole(path))]  # fmt: skip


class Unfetched(UsageError):
    """A hub did not give what it has: for want of a network, say."""


def tell(resolve: Callable[..., None], *arguments) -> None:
    """Call `resolve`; what a hub does not give is only said, and the plan then names all that is missing at once."""
    try:
        resolve(*arguments)
    except Unfetched as error:
        print(str(error).partition(PUT)[0], flush=True)


def fetch(start: Start, download: Callable[[Start, Path], None]) -> None:
    """Have `download(start, file)` write what the hub gives, where no folder has the file; UsageError if it cannot."""
    if start.random or start.file:
        return
    if not start.fetched:
        raise UsageError(_nowhere(start))
    print(f"start weights: asking {start.hub} for {start.name}", flush=True)
    try:
        with replacing(start.fetched) as temporary, _patience():
            download(start, temporary)
            write_json(_note(start.fetched), {"bytes": temporary.stat().st_size})
    except UsageError:
        raise
    except Exception as error:  # the hubs' clients raise many kinds
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
        raise Unfetched(_advice(start, f"the hub ({start.hub}) gives none ({reason})")) from None


def record(start: Start) -> dict[str, str]:
    """For run.json: the name that was asked for, the file, its digest, whose it is, and the source that it names."""
    if start.random:
        return {"name": RANDOM}
    path = find(start)
    found = {"name": start.weights, "file": path.name, "sha256": runs.digest(path), "origin": origin(path)}
    return found | ({"source": str(_metadata(path)["source"])} if "source" in _metadata(path) else {})


def origin(path: Path) -> str:
    """Whose a file is: of the folder WEIGHTS, of the project, or of a hub."""
    owners = {"project": ROOT / "weights", "WEIGHTS": _given()}
    return next((name for name, folder in owners.items() if folder and path.is_relative_to(folder)), "hub")


def wanted(path: Path) -> Input | None:
    """What a file says of its network's input, in its metadata (weights/README.md); None where it says nothing."""
    says = _metadata(path)
    if TENSORFLOW.search(str(says.get("source", ""))) and not {"mean", "std", "pad_type"} & says.keys():
        return Input(0.5, 0.5, "same")
    try:
        known = {"mean": float(says["mean"]), "std": float(says["std"])}
    except (KeyError, ValueError, TypeError):
        return None
    return Input(**known, pad_type=str(says.get("pad_type", "")))


def settle(member, start: Start, arguments: str):
    """A member with the gray values, and in its `arguments` the padding, that its start wants where its YAML is silent.

    member: settings with `mean`, `std` and the dict `arguments` of its network's; returned as a changed copy. Where the
    start weights are missing nobody knows what they want, and the member stays as it is.
    """
    asked = not start.random and start.hub != "keras"
    if asked and start.file is None:
        return member
    wants = (asked and wanted(start.file)) or Input()
    changes = {key: getattr(wants, key) for key in ("mean", "std") if getattr(member, key) is None}
    given = getattr(member, arguments)
    if wants.pad_type and "pad_type" not in given:
        changes[arguments] = given | {"pad_type": wants.pad_type}
    return member.model_copy(update=changes) if changes else member


def remarks(member, start: Start, arguments: str) -> list[str]:
    """Where a member's settings, before `settle`, may not fit its start weights: to be told before it trains."""
    if start.file is None or start.hub == "keras":
        return []
    wants, has = wanted(start.file), Input(member.mean, member.std, getattr(member, arguments).get("pad_type", ""))
    if wants is None and None not in has:
        return []
    if wants is None:
        taken = f"mean {Input().mean:g}, std {Input().std:g}"
        where = "say it in its metadata or in the YAML (weights/README.md)"
        return [f"{start.file.name} does not say what its network wants of its input: {taken} are taken; {where}"]
    pairs = zip(Input._fields, wants, has, strict=True)
    other = [f"{key} {ours}, not {theirs or 'none'}" for key, theirs, ours in pairs if ours not in (None, "", theirs)]
    return [f"{start.file.name} wants other than the YAML says, which is kept: {'; '.join(other)}"] if other else []


def describe(member, start: Start, arguments: str) -> str:
    """In a line: the file, whose it is, and how its network sees the images."""
    padding = getattr(member, arguments).get("pad_type")
    seen = f"mean {member.mean:g}, std {member.std:g}{f', pad_type {padding}' if padding else ''}"
    source = _metadata(start.file).get("source")
    return f"{start.file.name} ({origin(start.file)}{f': {source}' if source else ''}); {seen}"


def _given() -> Path | None:
    return as_meant(os.environ["WEIGHTS"]) if os.environ.get("WEIGHTS") else None


def _nowhere(start: Start) -> str:
    files = " or ".join(f"{start.name}{kind}" for kind in start.kinds)
    return (
        f"weights '{start.weights}' are not in {_given() or 'the folder WEIGHTS (not set)'} nor in {ROOT / 'weights'}; "
        f"expected {files} (`weights: imagenet` asks the hub instead, `weights: {RANDOM}` needs none)"
    )


def _advice(start: Start, why: str) -> str:
    files = " or ".join(f"{start.name}{kind}" for kind in start.kinds)
    return (
        f"{start.weights}: {why}{PUT}{files} into {_given() or 'a folder, and name it: WEIGHTS=<folder>'} "
        f"(weights/README.md tells what it holds), or write `weights: {RANDOM}`"
    )


def _metadata(path: Path) -> dict:
    """A safetensors file's metadata, with what its key 'input' holds in JSON; {} of another kind of file."""
    stat = path.stat()
    return _read_metadata(path, stat.st_mtime_ns, stat.st_size) if path.suffix in TORCH else {}


@cache
def _read_metadata(path: Path, _time: int, size: int) -> dict:
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            found = json.loads(file.read(length)) if length <= size else {}
        found = found.get("__metadata__", {})
        return found | json.loads(found.get("input", "{}"))
    except (ValueError, AttributeError, TypeError):
        raise UsageError(f"{path} is no safetensors file; get it anew (weights/README.md)") from None


@contextmanager
def _patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
