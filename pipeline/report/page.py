"""The page: chapter after chapter, each left out with a line where the run lacks what it shows."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

from cxr import runs
from cxr.errors import DataError, UsageError
from cxr.files import write_text
from cxr.paths import Paths
from cxr.recipe import Recipe
from pipeline.choose import phantoms
from pipeline.report import (
    chest_boxes,
    gallery,
    headline,
    lesions,
    material,
    ranking,
    stack,
    steps,
    thresholds,
    training,
)
from pipeline.report.blocks import Chapter
from pipeline.report.sources import Sources

CHAPTERS: tuple[tuple[str, str, Callable[[Sources], list]], ...] = (
    ("headline", "How good it is", headline.blocks),
    ("curves", "ROC and precision", ranking.curve_blocks),
    ("reliability", "Can the probability be believed?", ranking.reliability_blocks),
    ("stack", "What the stack adds to its members", stack.blocks),
    ("lesions", "Dice by size of the pneumothorax", lesions.blocks),
    ("thresholds", "The decision, and how it was found", thresholds.blocks),
    ("gallery", "Pictures", gallery.blocks),
    ("boxes", "The chest boxes", chest_boxes.blocks),
    ("training", "The trainings", training.blocks),
    ("folds", "Folds and leaks", material.fold_blocks),
    ("doctor", "The data", material.doctor_blocks),
    ("steps", "How it was made", steps.blocks),
)


Shown = TypeVar("Shown")
ODD = (KeyError, TypeError, AttributeError, ValueError, IndexError, OSError, EOFError, BadZipFile)
"""What a file of another shape raises: one that an older version wrote, or that was edited or cut."""


def write(recipe: Recipe, paths: Paths, path: Path) -> None:
    """Write a run's page. Raises UsageError where the data is not prepared."""
    run = Sources(recipe, paths)
    described = f"{len(run.prepared.manifest):,} images"
    lines = [f"{described}; made {time.strftime('%Y-%m-%d %H:%M')}; commit {(runs.commit() or 'unknown')[:9]}"]
    if paths.data == phantoms():
        lines.append("A run on phantoms: its figures say nothing about patients.")
    title = f"{recipe.name} on {paths.dataset}"
    write_text(path, rendered(title, [recipe.about, *lines], [chapter(run, *one) for one in CHAPTERS]))


def chapter(run: Shown, name: str, title: str, make: Callable[[Shown], list]) -> Chapter:
    """A chapter, or a line that says what it lacks."""
    try:
        return Chapter(name, title, make(run))
    except (UsageError, DataError) as error:
        return Chapter(name, title, [f"Left out: {error}."])
    except ODD as error:
        said = f"Left out: a file that this chapter shows lacks what it should hold ({type(error).__name__}: {error})."
        return Chapter(name, title, [f"{said} FORCE=1 makes the run's files anew."])


def rendered(title: str, lines: list[str], chapters: list[Chapter]) -> str:
    """The page's HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              loader=FileSystemLoader(Path(__file__).parent))  # fmt: skip
    return environment.get_template("page.html").render(title=title, lines=lines, chapters=chapters)
