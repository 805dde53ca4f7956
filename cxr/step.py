"""A step of the work: one process that makes one folder. Stages list theirs in config.py; the pipeline runs them."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from cxr import runs
from cxr.source_code import reached_modules
from cxr.training.settings import SETTINGS_WITHOUT_EFFECT


@dataclass(frozen=True)
class Step:
    """What one process does, what it is made from and where it ends up."""

    name: str
    """For people: 'stage 1 effb4_crop fold 0'."""
    room: str
    """The folder of its code: 'stage1_classify'."""
    command: tuple[str, ...]
    """Module and arguments for `python -m`."""
    folder: Path
    settings: BaseModel
    inputs: tuple[Path, ...] = field(default=())
    work_seconds: float = 0.0
    """Training cost in seconds of the reference machine; only ratios between steps matter."""
    disk_bytes: int = 0
    """Bytes that it will leave."""
    needs_gpu: bool = False
    """Whether it wants a GPU of its own."""

    outputs: tuple[Path, ...] = ()
    """Files that it may write; where one is missing or changed afterwards, it runs again."""
    editable_outputs: tuple[Path, ...] = ()
    """JSON files that it writes for the user to edit; where one is missing or damaged, it runs again."""
    chosen_modules: tuple[str, ...] = ()
    """Modules that its command chooses as it runs, a backend say: they are part of its code."""
    excluded_modules: tuple[str, ...] = ()
    """Modules that its command imports for other work: they are not."""
    substeps: tuple["Step", ...] = ()
    """Steps that its command makes on its way."""

    @property
    def identity(self) -> runs.Identity:
        source = reached_modules(self.command[0], self.chosen_modules, self.excluded_modules)
        inputs = runs.digest_inputs(self.inputs, self.folder)
        return runs.Identity(_drop_ineffective(self.settings.model_dump(mode="json")), inputs, source)

    @property
    def is_up_to_date(self) -> bool:
        return runs.is_up_to_date(self.folder, self.identity) and all(
            substep.is_up_to_date for substep in self.substeps
        )

    def record_run(self, identity: runs.Identity) -> AbstractContextManager[dict]:
        """As runs.record_run; identity: this step's, from before it began."""
        seed = getattr(self.settings, "seed", None)
        return runs.record_run(self.folder, identity, seed, self.outputs, self.editable_outputs, self.command)


def _drop_ineffective(settings: object) -> object:
    """Settings without those that change no result."""
    if not isinstance(settings, dict):
        return settings
    return {key: _drop_ineffective(value) for key, value in settings.items() if key not in SETTINGS_WITHOUT_EFFECT}


def run_step(step: Step, write_outputs) -> None:
    """Run `write_outputs(identity, metrics)` unless the step is up to date; it imports its framework itself, so late.

    Raises UsageError if an input differs from what its step wrote.
    """
    identity = step.identity
    if step.is_up_to_date:
        print(f"{step.name}: up to date")
        return
    record = runs.read_run_record(step.folder)
    if altered_outputs := record and runs.list_altered_outputs(step.folder, record):
        print(f"{step.name}: missing or changed since it was made, so made again: {', '.join(altered_outputs)}")
    runs.require_unaltered(step.inputs)
    for copy_path in runs.keep_edited_outputs(step.folder, step.editable_outputs):
        print(f"{step.name}: makes anew what was edited; your version is kept as {copy_path}")
    with step.record_run(identity) as metrics:
        write_outputs(identity.fingerprint, metrics)
