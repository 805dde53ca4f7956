"""What a run is going to do, said before its first training: units, disk, device."""

import os
import shutil
from pathlib import Path

from cxr import runs
from cxr.errors import UsageError
from cxr.paths import Paths
from cxr.plan import Unit
from cxr.recipe import Recipe
from pipeline import devices
from pipeline.adopt import Step, changes, obstacles, told
from pipeline.stages import every_unit, to_run


def show(recipe: Recipe, paths: Paths) -> list[str]:
    """Print the plan, and return the stages that have work to do; UsageError where it cannot fit on the disk."""
    stages = every_unit(recipe, paths)
    say_what_else_made_it([unit for units in stages.values() for unit in units])
    stale = {id(unit) for unit in to_run([unit for units in stages.values() for unit in units], paths)}
    if not stale:
        print(f"plan: up to date ({sum(map(len, stages.values()))} units)")
        return []
    print(f"plan: recipe {recipe.name} on {paths.dataset}, results in {paths.run}")
    for stage, units in stages.items():
        print(line(stage, units, stale))
    print(f"  device   {devices.describe()}")
    if warning := too_much(recipe):
        print(warning)
    fits([unit for units in stages.values() for unit in units if id(unit) in stale], paths)
    return [stage for stage, units in stages.items() if any(id(unit) in stale for unit in units)]


def say_what_else_made_it(units: list[Unit]) -> None:
    """One line on other package versions, and one on other code, that finished work was made by."""
    every = [each for unit in units for each in (*unit.parts, unit)]
    records = [(unit, record) for unit in every if (record := runs.read_record(unit.folder))]
    versions = {f"{name} {told(then)} -> {told(now)}" for _, record in records
                for name, (then, now) in changes(record.get("versions"), runs.versions()).items()}  # fmt: skip
    if versions:
        print(f"plan: packages have other versions than in finished steps: {', '.join(sorted(versions))} "
              "(FORCE=1 makes these anew)")  # fmt: skip
    changed = [Step.of(unit) for unit, record in records if record["fingerprint"] != unit.identity.hash]
    if count := sum(not obstacles(step) for step in changed):
        print(f"plan: of {count} finished steps only the code has changed; to keep them: python -m pipeline.adopt")


def line(stage: str, units: list[Unit], stale: set[int]) -> str:
    """A row of the table: the units of one stage."""
    due = [unit for unit in units if id(unit) in stale]
    current = len(units) - len(due)
    return f"  {stage}   {len(due):3d} to run, {current:3d} up to date, {size(sum(u.disk for u in due)):>8} to write"


def too_much(recipe: Recipe) -> str | None:
    """What to say of a recipe made for a GPU on a machine without one."""
    if recipe.made_for != "gpu" or devices.gpus():
        return None
    instead = f"; take instead: bash run_all.sh recipes/{recipe.smaller}.yaml" if recipe.smaller else ""
    return f"  NOTE     {recipe.name} is made for a GPU: here it would take very long (it goes on){instead}"


def fits(due: list[Unit], paths: Paths) -> None:
    """Print the disk that the run takes; UsageError where there is too little."""
    needed = sum(max(unit.disk - taken(unit.folder), 0) for unit in due)
    there = existing(paths.run)
    free = shutil.disk_usage(there).free
    print(f"  disk     {size(needed)} more at its peak, {size(taken(paths.artifacts))} taken so far, {size(free)} free")
    if needed > free:
        raise UsageError(
            f"the run needs {size(needed)} on the disk of {there} and {size(free)} are free; "
            f"make room, or set CXR_HOME=<folder> to keep the results elsewhere"
        )


def taken(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(os.path.getsize(os.path.join(root, name)) for root, _, names in os.walk(folder) for name in names)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def size(count: float) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
