"""The units of every stage. Of a stage the pipeline knows config.py and nothing else."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from cxr.paths import Paths
from cxr.plan import Unit
from cxr.prepare import PIXELS
from cxr.recipe import Recipe

ROOMS = {"stage0": "stage0_bbox", "stage1": "stage1_classify", "stage2": "stage2_segment", "stage3": "stage3_stack"}


def units(stage: str, recipe: Recipe, paths: Paths) -> list[Unit]:
    """The units of a stage, in the order to run them."""
    return import_module(f"{ROOMS[stage]}.config").units(recipe, paths)


def every_unit(recipe: Recipe, paths: Paths) -> dict[str, list[Unit]]:
    """The units of all stages, by stage."""
    return {stage: units(stage, recipe, paths) for stage in ROOMS}


def every_output(recipe: Recipe, paths: Paths) -> list[Path]:
    """What prepare and all stages leave."""
    units = [each for some in every_unit(recipe, paths).values() for unit in some for each in (*unit.parts, unit)]
    prepared = [paths.prepared / name for name in PIXELS]
    return [*prepared, paths.folds, *(path for unit in units for path in unit.outputs)]


def to_run(found: Iterable[Unit], paths: Paths) -> list[Unit]:
    """Those that are not up to date, and those made from what such ones will make anew."""
    stale: list[Unit] = []
    for unit in found:
        if any(feeds(earlier, unit, paths) for earlier in stale) or not unit.current:
            stale.append(unit)
    return stale


def feeds(earlier: Unit, unit: Unit, paths: Paths) -> bool:
    """Whether `unit` reads what `earlier` writes: files of its folder."""
    return any(_inside(path, earlier.folder) for path in unit.inputs)


def _inside(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents
