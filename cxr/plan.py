"""A unit of work: one process that makes one folder. Stages list theirs in config.py; the pipeline runs them."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from cxr import runs


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

    @property
    def identity(self) -> runs.Identity:
        return runs.identity(self.config, self.inputs, self.room)

    @property
    def current(self) -> bool:
        return runs.is_current(self.folder, self.identity)


def run(unit: Unit, make) -> None:
    """Run `make(metrics)` unless the unit is up to date; `make` imports its framework itself, so late."""
    identity = unit.identity
    if unit.current:
        print(f"{unit.name}: up to date")
        return
    with runs.recorded(unit.folder, identity, getattr(unit.config, "seed", None)) as metrics:
        make(identity.hash, metrics)
