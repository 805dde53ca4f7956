"""A unit of work: one process that makes one folder. Stages list theirs in config.py; the pipeline runs them."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from cxr import runs
from cxr.source_code import reached_modules
from cxr.training import WITHOUT_EFFECT


@dataclass(frozen=True)
class Unit:
    """What one process does, what it is made from and where it ends up."""

    name: str
    """For people: 'stage 1 effb4_crop fold 0'."""
    room: str
    """The folder of its code: 'stage1_classify'."""
    command: tuple[str, ...]
    """Module and arguments for `python -m`."""
    folder: Path
    config: BaseModel
    inputs: tuple[Path, ...] = field(default=())
    work: float = 0.0
    """Training cost in seconds of the reference machine; only ratios between units matter."""
    disk: int = 0
    """Bytes that it will leave."""
    gpu: bool = False
    """Whether it wants a GPU of its own."""

    outputs: tuple[Path, ...] = ()
    """Files that it may write; where one is missing or changed afterwards, it runs again."""
    editable: tuple[Path, ...] = ()
    """JSON files that it writes for the user to edit; where one is missing or damaged, it runs again."""
    also: tuple[str, ...] = ()
    """Modules that its command chooses as it runs, a backend say: they are part of its code."""
    but_not: tuple[str, ...] = ()
    """Modules that its command imports for other work: they are not."""
    parts: tuple["Unit", ...] = ()
    """Units that its command makes on its way."""

    @property
    def identity(self) -> runs.Identity:
        source = reached_modules(self.command[0], self.also, self.but_not)
        inputs = runs.input_digests(self.inputs, self.folder)
        return runs.Identity(_decisive(self.config.model_dump(mode="json")), inputs, source)

    @property
    def current(self) -> bool:
        return runs.is_current(self.folder, self.identity) and all(part.current for part in self.parts)

    def recorded(self, identity: runs.Identity) -> AbstractContextManager[dict]:
        """As runs.recorded; identity: this unit's, from before it began."""
        seed = getattr(self.config, "seed", None)
        return runs.recorded(self.folder, identity, seed, self.outputs, self.editable, self.command)


def _decisive(settings: object) -> object:
    """Settings without those that change no result."""
    if not isinstance(settings, dict):
        return settings
    return {key: _decisive(value) for key, value in settings.items() if key not in WITHOUT_EFFECT}


def run(unit: Unit, make) -> None:
    """Run `make(identity, metrics)` unless the unit is up to date; `make` imports its framework itself, so late.

    Raises UsageError where an input is not as the step left it that wrote it.
    """
    identity = unit.identity
    if unit.current:
        print(f"{unit.name}: up to date")
        return
    record = runs.read_record(unit.folder)
    if lost := record and runs.altered(unit.folder, record):
        print(f"{unit.name}: missing or changed since it was made, so made again: {', '.join(lost)}")
    runs.require_whole(unit.inputs)
    for copy in runs.keep_edited(unit.folder, unit.editable):
        print(f"{unit.name}: makes anew what was edited; your version is kept as {copy}")
    with unit.recorded(identity) as metrics:
        make(identity.hash, metrics)
