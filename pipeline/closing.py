"""The last words of a run: its pictures, where everything lies, how long it took, on what it ran."""

import os
import time
from pathlib import Path

from cxr.files import read_json
from cxr.paths import Paths
from cxr.progress import clock
from cxr.recipe import Recipe
from pipeline import jobs
from pipeline.choose import phantoms
from pipeline.report.units import page_unit, picture_unit
from pipeline.stages import every_unit


def show(recipe: Recipe, paths: Paths) -> None:
    """Draw the run's pictures and its page, and print what to know about it."""
    due = [unit for unit in (picture_unit(recipe, paths), page_unit(recipe, paths)) if not unit.current]
    for unit in due:
        jobs.call(unit.name, unit.command)
    if not due:
        print("pictures and report: up to date")
    print()
    for label, path in files(paths).items():
        print(f"{label:<12} {path}")
    print(f"{'time':<12} {times(recipe, paths)}")
    if paths.data == phantoms():
        print("This was a run on phantoms, as there is no data in data/: its figures say nothing about patients.")
    print("Research use only: not a medical device.")


def files(paths: Paths) -> dict[str, Path]:
    """What a run leaves, of that which is there."""
    pictures = sorted(paths.editable_boxes.parent.glob(f"{paths.dataset}*.[pj][np]g"))
    places = {
        "report": paths.run / "report.html", "submission": paths.submission,
        "results": next(paths.run.rglob("results.md"), paths.run / "results.md"),
        "pictures": paths.run / "pictures" / "overlays.png", "boxes": paths.editable_boxes,
        "overview": next(iter(pictures), Path()), "doctor": paths.artifacts / "doctor.html",
        "left out": paths.prepared / "rejected.csv",
    }  # fmt: skip
    return {label: path for label, path in places.items() if path.is_file()}


def times(recipe: Recipe, paths: Paths) -> str:
    """Seconds of work by stage, whenever it was done, and of this call."""
    parts = [f"{stage} {clock(seconds(units))}" for stage, units in every_unit(recipe, paths).items()]
    began = os.environ.get("RUN_BEGAN")
    return ", ".join(parts) + (f"; this run {clock(time.time() - int(began))}" if began else "")


def seconds(units: list) -> float:
    """Time that the units took when they ran."""
    return sum((read_json(unit.folder / "run.json") or {}).get("seconds", 0.0) for unit in units)
