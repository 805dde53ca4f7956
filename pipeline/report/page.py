"""The page of a run and its chapters; a chapter whose files are missing is left out, with a line that names them."""

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
from pipeline.choose import locate_phantoms
from pipeline.report import (
    chest_boxes,
    dataset,
    gallery,
    headline,
    lesions,
    provenance,
    ranking,
    stackers,
    thresholds,
    training,
)
from pipeline.report.blocks import Chapter
from pipeline.run_files import RunFiles

CHAPTERS: tuple[tuple[str, str, Callable[[RunFiles], list]], ...] = (
    ("headline", "How good it is", headline.build_blocks),
    ("curves", "ROC and precision", ranking.build_curve_blocks),
    ("reliability", "Can the probability be believed?", ranking.build_reliability_blocks),
    ("stack", "What the stack adds to its members", stackers.build_blocks),
    ("lesions", "Dice by size of the pneumothorax", lesions.build_blocks),
    ("thresholds", "The decision, and how it was found", thresholds.build_blocks),
    ("gallery", "Pictures", gallery.build_blocks),
    ("boxes", "The chest boxes", chest_boxes.build_blocks),
    ("training", "The trainings", training.build_blocks),
    ("folds", "Folds and leaks", dataset.build_fold_blocks),
    ("doctor", "The data", dataset.build_doctor_blocks),
    ("steps", "How it was made", provenance.build_blocks),
)


ChapterInput = TypeVar("ChapterInput")
DAMAGED_FILE_ERRORS = (KeyError, TypeError, AttributeError, ValueError, IndexError, OSError, EOFError, BadZipFile)
"""Raised on a file whose content is not as expected: written by an older version, edited or cut."""


def write_page(recipe: Recipe, paths: Paths, path: Path) -> None:
    """Write a run's page. Raises UsageError where the data is not prepared."""
    run = RunFiles(recipe, paths)
    image_count = f"{len(run.prepared.manifest):,} images"
    lines = [f"{image_count}; made {time.strftime('%Y-%m-%d %H:%M')}; commit {(runs.git_commit() or 'unknown')[:9]}"]
    if paths.data_folder == locate_phantoms():
        lines.append("A run on phantoms: its figures say nothing about patients.")
    title = f"{recipe.name} on {paths.dataset_name}"
    chapters = [build_chapter(run, *chapter_spec) for chapter_spec in CHAPTERS]
    write_text(path, render_page(title, [recipe.about, *lines], chapters))


def build_chapter(run: ChapterInput, name: str, title: str, build_blocks: Callable[[ChapterInput], list]) -> Chapter:
    """A chapter of a page; if a file is missing or damaged, a line that names it takes the place of its blocks.

    run: what `build_blocks` reads, a RunFiles or the folders of two runs
    name: the chapter's id in the page's links
    title: its heading
    build_blocks: returns its paragraphs, tables and pictures, see blocks.py
    """
    try:
        return Chapter(name, title, build_blocks(run))
    except (UsageError, DataError) as error:
        return Chapter(name, title, [f"Left out: {error}."])
    except DAMAGED_FILE_ERRORS as error:
        reason = f"a file that this chapter shows lacks what it should hold ({type(error).__name__}: {error})"
        return Chapter(name, title, [f"Left out: {reason}. FORCE=1 makes the run's files anew."])


def render_page(title: str, lines: list[str], chapters: list[Chapter]) -> str:
    """A page as HTML; lines: paragraphs below its title."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              loader=FileSystemLoader(Path(__file__).parent))  # fmt: skip
    return environment.get_template("page.html").render(title=title, lines=lines, chapters=chapters)
