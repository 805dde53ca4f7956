"""Start weights, resolved once and before any unit: a stage's check fetches them; units only load files."""

import os
from pathlib import Path

from cxr import weights
from cxr.errors import UsageError
from cxr.paths import Paths
from cxr.recipe import Recipe
from pipeline import jobs
from pipeline.stages import ROOMS, units

TRAINED = ("stage0", "stage1", "stage2")  # have start weights, and a module check


def resolve(recipe: Recipe, paths: Paths) -> None:
    """Have the stages fetch what no folder has; UsageError names all that is missing then, and what to do."""
    asked: set[Path] = set()
    for stage in TRAINED:
        files = missing(stage, recipe, paths).keys()
        if files - asked:
            jobs.call(f"start weights of {stage}", (f"{ROOMS[stage]}.check", "--fetch"))
        asked |= files
    still = {path: name for stage in TRAINED for path, name in missing(stage, recipe, paths).items()}
    if still:
        files = ", ".join(f"{path.name} ({name})" for path, name in still.items())
        folder = os.environ.get("WEIGHTS") or "a folder, and name it: WEIGHTS=<folder>"
        raise UsageError(
            f"start weights are missing, so nothing was trained: put {files} into {folder} (weights/README.md tells "
            "what they hold and how to bring them), run where a hub can be reached, or write `weights: random` into "
            "the members' YAML"
        )


def missing(stage: str, recipe: Recipe, paths: Paths) -> dict[Path, str]:
    """The files of start weights that are in no folder, each with the first unit that needs it."""
    found: dict[Path, str] = {}
    for unit in units(stage, recipe, paths):
        for path in weights.lacking(unit.inputs):
            found.setdefault(path, unit.name)
    return found
