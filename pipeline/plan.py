"""What a run is going to do, said before its first training: steps, disk, device."""

import os
import shutil
from pathlib import Path

from cxr import runs
from cxr.errors import UsageError
from cxr.paths import Paths
from cxr.recipe import Recipe
from cxr.step import Step
from pipeline import devices
from pipeline.adopt import AdoptionCandidate, find_changes, format_value, list_refused_changes
from pipeline.stages import find_outdated_steps, list_steps_by_stage


def print_plan(recipe: Recipe, paths: Paths) -> list[str]:
    """Print the plan, and return the stages that have work to do; UsageError where it cannot fit on the disk."""
    steps_by_stage = list_steps_by_stage(recipe, paths)
    print_version_changes([step for steps in steps_by_stage.values() for step in steps])
    outdated_ids = {
        id(step) for step in find_outdated_steps([step for steps in steps_by_stage.values() for step in steps])
    }
    if not outdated_ids:
        print(f"plan: up to date ({sum(map(len, steps_by_stage.values()))} steps)")
        return []
    print(f"plan: recipe {recipe.name} on {paths.dataset_name}, results in {paths.run_folder}")
    for stage, steps in steps_by_stage.items():
        print(format_stage_line(stage, steps, outdated_ids))
    print(f"  device   {devices.describe_devices()}")
    if warning := describe_missing_gpu(recipe):
        print(warning)
    check_disk_space([step for steps in steps_by_stage.values() for step in steps if id(step) in outdated_ids], paths)
    return [stage for stage, steps in steps_by_stage.items() if any(id(step) in outdated_ids for step in steps)]


def print_version_changes(steps: list[Step]) -> None:
    """One line on other package versions, and one on other code, that finished work was made by."""
    all_steps = [substep for step in steps for substep in (*step.substeps, step)]
    records = [(step, record) for step in all_steps if (record := runs.read_run_record(step.folder))]
    versions = {
        f"{name} {format_value(old)} -> {format_value(new)}"
        for _, record in records
        for name, (old, new) in find_changes(record.get("versions"), runs.package_versions()).items()
    }
    if versions:
        print(f"plan: packages have other versions than in finished steps: {', '.join(sorted(versions))} "
              "(FORCE=1 makes these anew)")  # fmt: skip
    candidates = [
        AdoptionCandidate.from_step(step)
        for step, record in records
        if record["fingerprint"] != step.identity.fingerprint
    ]
    if count := sum(not list_refused_changes(candidate) for candidate in candidates):
        print(f"plan: of {count} finished steps only the code has changed; to keep them: python -m pipeline.adopt")


def format_stage_line(stage: str, steps: list[Step], outdated_ids: set[int]) -> str:
    """A row of the table: the steps of one stage."""
    due_steps = [step for step in steps if id(step) in outdated_ids]
    current_count = len(steps) - len(due_steps)
    due_bytes = format_bytes(sum(step.disk_bytes for step in due_steps))
    return f"  {stage}   {len(due_steps):3d} to run, {current_count:3d} up to date, {due_bytes:>8} to write"


def describe_missing_gpu(recipe: Recipe) -> str | None:
    """What to say of a recipe made for a GPU on a machine without one."""
    if recipe.made_for != "gpu" or devices.list_gpus():
        return None
    alternative = f"; take instead: bash run_all.sh recipes/{recipe.smaller}.yaml" if recipe.smaller else ""
    return f"  NOTE     {recipe.name} is made for a GPU: here it would take very long (it goes on){alternative}"


def check_disk_space(due_steps: list[Step], paths: Paths) -> None:
    """Print the disk that the run takes; UsageError where there is too little."""
    needed_bytes = sum(max(step.disk_bytes - count_folder_bytes(step.folder), 0) for step in due_steps)
    existing_folder = find_existing_folder(paths.run_folder)
    free_bytes = shutil.disk_usage(existing_folder).free
    print(
        f"  disk     {format_bytes(needed_bytes)} more at its peak, "
        f"{format_bytes(count_folder_bytes(paths.artifacts_folder))} taken so far, {format_bytes(free_bytes)} free"
    )
    if needed_bytes > free_bytes:
        raise UsageError(
            f"the run needs {format_bytes(needed_bytes)} on the disk of {existing_folder} and "
            f"{format_bytes(free_bytes)} are free; make room, or set CXR_HOME=<folder> to keep the results elsewhere"
        )


def count_folder_bytes(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(os.path.getsize(os.path.join(root, name)) for root, _, names in os.walk(folder) for name in names)


def find_existing_folder(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(candidate for candidate in (folder, *folder.parents) if candidate.is_dir())


def format_bytes(byte_count: float) -> str:
    """Bytes in words."""
    return f"{byte_count / 1e9:.1f} GB" if byte_count >= 1e9 else f"{byte_count / 1e6:.0f} MB"
