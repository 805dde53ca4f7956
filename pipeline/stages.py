"""The steps of every stage. The pipeline imports nothing of a stage but its config.py."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from cxr.paths import Paths
from cxr.recipe import Recipe
from cxr.step import Step
from prepare.steps import PIXEL_FILES

STAGE_PACKAGES = {
    "stage0": "stage0_bbox", "stage1": "stage1_classify", "stage2": "stage2_segment", "stage3": "stage3_stack",
}  # fmt: skip


def list_steps(stage: str, recipe: Recipe, paths: Paths) -> list[Step]:
    """The steps of a stage, in the order to run them."""
    return import_module(f"{STAGE_PACKAGES[stage]}.config").units(recipe, paths)


def list_steps_by_stage(recipe: Recipe, paths: Paths) -> dict[str, list[Step]]:
    """The steps of all stages, by stage."""
    return {stage: list_steps(stage, recipe, paths) for stage in STAGE_PACKAGES}


def list_outputs(recipe: Recipe, paths: Paths) -> list[Path]:
    """All files that prepare and the stages write."""
    steps = [step for stage_steps in list_steps_by_stage(recipe, paths).values() for step in stage_steps]
    steps = [substep for step in steps for substep in (*step.substeps, step)]
    prepared_files = [paths.prepared_folder / name for name in PIXEL_FILES]
    return [*prepared_files, paths.folds_csv, *(path for step in steps for path in step.outputs)]


def find_outdated_steps(steps: Iterable[Step]) -> list[Step]:
    """Steps that are out of date, and all later ones that read their outputs."""
    outdated_steps: list[Step] = []
    for step in steps:
        if any(feeds_into(earlier, step) for earlier in outdated_steps) or not step.is_up_to_date:
            outdated_steps.append(step)
    return outdated_steps


def feeds_into(earlier: Step, step: Step) -> bool:
    """Whether `step` reads files in the folder that `earlier` writes."""
    return any(_is_inside(path, earlier.folder) for path in step.inputs)


def _is_inside(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents
