"""Print what a run is going to do before it trains anything: steps, disk, device."""

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
    """Print the plan; returns the stages with work to do, raises UsageError where the disk is too small."""
    steps_by_stage = list_steps_by_stage(recipe, paths)
    all_steps = [step for steps in steps_by_stage.values() for step in steps]
    print_version_changes(all_steps)
    outdated_steps = find_outdated_steps(all_steps)
    if not outdated_steps:
        print(f"plan: up to date ({len(all_steps)} steps)")
        return []
    outdated_ids = {id(step) for step in outdated_steps}
    print(f"plan: recipe {recipe.name} on {paths.dataset_name}, results in {paths.run_folder}")
    for stage, steps in steps_by_stage.items():
        print(format_stage_line(stage, steps, outdated_ids))
    print(f"  device   {devices.describe_devices()}")
    if warning := describe_missing_gpu(recipe):
        print(warning)
    check_disk_space(outdated_steps, paths)
    return [stage for stage, steps in steps_by_stage.items() if any(id(step) in outdated_ids for step in steps)]


def print_version_changes(steps: list[Step]) -> None:
    """Print a line if finished steps were made by other package versions, and one if only by other code."""
    all_steps = [substep for step in steps for substep in (*step.substeps, step)]
    records = [(step, record) for step in all_steps if (record := runs.read_run_record(step.folder))]
    versions = {
        f"{name} {format_value(old)} -> {format_value(new)}"
        for _, record in records
        for name, (old, new) in find_changes(record.get("versions"), runs.package_versions()).items()
    }
    if versions:
        changes = ", ".join(sorted(versions))
        print(f"plan: packages have other versions than in finished steps: {changes} (FORCE=1 makes these anew)")
    candidates = [
        AdoptionCandidate.from_step(step)
        for step, record in records
        if record["fingerprint"] != step.identity.fingerprint
    ]
    if count := sum(not list_refused_changes(candidate) for candidate in candidates):
        print(f"plan: of {count} finished steps only the code has changed; to keep them: python -m pipeline.adopt")


def format_stage_line(stage: str, steps: list[Step], outdated_ids: set[int]) -> str:
    """A row of the plan: how many steps of a stage will run, and what they write; outdated_ids: id() of these steps."""
    due_steps = [step for step in steps if id(step) in outdated_ids]
    current_count = len(steps) - len(due_steps)
    due_bytes = format_bytes(sum(step.disk_bytes for step in due_steps))
    return f"  {stage}   {len(due_steps):3d} to run, {current_count:3d} up to date, {due_bytes:>8} to write"


def describe_missing_gpu(recipe: Recipe) -> str | None:
    """A warning for a recipe made for a GPU on a machine without one; else None."""
    if recipe.made_for != "gpu" or devices.list_gpus():
        return None
    alternative = f"; take instead: bash run_all.sh recipes/{recipe.smaller}.yaml" if recipe.smaller else ""
    return f"  NOTE     {recipe.name} is made for a GPU: here it would take very long (it goes on){alternative}"


def check_disk_space(due_steps: list[Step], paths: Paths) -> None:
    """Print how much disk the run needs, has taken and has left; UsageError where too little is free."""
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
    """Bytes of all files in a folder, 0 where there is none."""
    return sum(os.path.getsize(os.path.join(root, name)) for root, _, names in os.walk(folder) for name in names)


def find_existing_folder(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(candidate for candidate in (folder, *folder.parents) if candidate.is_dir())


def format_bytes(byte_count: float) -> str:
    """A number of bytes as text: '1.5 GB', '20 MB'."""
    return f"{byte_count / 1e9:.1f} GB" if byte_count >= 1e9 else f"{byte_count / 1e6:.0f} MB"
