"""Get start weights once, before any step: a stage's check fetches them, steps only load files."""

import os
from pathlib import Path

from cxr.errors import UsageError
from cxr.paths import Paths
from cxr.recipe import Recipe
from cxr.training import start_weights
from pipeline import jobs
from pipeline.stages import STAGE_PACKAGES, list_steps

TRAINED_STAGES = ("stage0", "stage1", "stage2")  # those with start weights and a module check.py


def resolve_start_weights(recipe: Recipe, paths: Paths) -> None:
    """Let the stages fetch missing start weights; raises UsageError that names those still missing, and what to do."""
    requested_files: set[Path] = set()
    for stage in TRAINED_STAGES:
        files = find_missing_weights(stage, recipe, paths).keys()
        if files - requested_files:
            jobs.run_module(f"start weights of {stage}", (f"{STAGE_PACKAGES[stage]}.check", "--fetch"))
        requested_files |= files
    missing_files = {
        path: name for stage in TRAINED_STAGES for path, name in find_missing_weights(stage, recipe, paths).items()
    }
    if missing_files:
        files = ", ".join(f"{path.name} ({name})" for path, name in missing_files.items())
        folder = os.environ.get("WEIGHTS") or "a folder, and name it: WEIGHTS=<folder>"
        raise UsageError(
            f"start weights are missing, so nothing was trained: put {files} into {folder} (weights/README.md tells "
            "what they hold and how to get them), run where a hub can be reached, or write `weights: random` into "
            "the members' YAML"
        )


def find_missing_weights(stage: str, recipe: Recipe, paths: Paths) -> dict[Path, str]:
    """Files of start weights that are in no folder: path -> name of the first step that needs it."""
    needed_by: dict[Path, str] = {}
    for step in list_steps(stage, recipe, paths):
        for path in start_weights.list_missing_weights(step.inputs):
            needed_by.setdefault(path, step.name)
    return needed_by
