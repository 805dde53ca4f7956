"""The end of a run: draws its pictures and its page, and prints where the results are and how long it took."""

import os
import time
from pathlib import Path

from cxr.paths import Paths
from cxr.progress import format_duration
from cxr.recipe import Recipe
from pipeline import jobs
from pipeline.choose import locate_phantoms
from pipeline.report.report_steps import build_page_step, build_picture_step
from pipeline.run_files import read_step_record
from pipeline.stages import list_steps_by_stage


def finish_run(recipe: Recipe, paths: Paths) -> None:
    """Draw the run's pictures and its page, and print where its results are and how long it took."""
    due_steps = [
        step for step in (build_picture_step(recipe, paths), build_page_step(recipe, paths)) if not step.is_up_to_date
    ]
    for step in due_steps:
        jobs.run_module(step.name, step.command)
    if not due_steps:
        print("pictures and report: up to date")
    print()
    for label, path in list_result_files(paths).items():
        print(f"{label:<12} {path}")
    print(f"{'time':<12} {format_times(recipe, paths)}")
    if paths.data_folder == locate_phantoms():
        print("This was a run on phantoms, as there is no data in data/: its figures say nothing about patients.")
    print("Research use only: not a medical device.")


def list_result_files(paths: Paths) -> dict[str, Path]:
    """The files that a run has written, by label; only those that exist."""
    box_pictures = sorted(paths.editable_boxes_csv.parent.glob(f"{paths.dataset_name}*.[pj][np]g"))
    result_paths = {
        "report": paths.run_folder / "report.html", "submission": paths.submission_csv,
        "results": next(paths.run_folder.rglob("results.md"), paths.run_folder / "results.md"),
        "pictures": paths.run_folder / "pictures" / "overlays.png", "boxes": paths.editable_boxes_csv,
        "overview": next(iter(box_pictures), Path()), "doctor": paths.artifacts_folder / "doctor.html",
        "left out": paths.prepared_folder / "rejected.csv",
    }  # fmt: skip
    return {label: path for label, path in result_paths.items() if path.is_file()}


def format_times(recipe: Recipe, paths: Paths) -> str:
    """The time that each stage's finished steps took, whenever they ran, and that of this call."""
    stage_times = [
        f"{stage} {format_duration(sum_seconds(steps))}" for stage, steps in list_steps_by_stage(recipe, paths).items()
    ]
    start_time = os.environ.get("RUN_BEGAN")
    return ", ".join(stage_times) + (
        f"; this run {format_duration(time.time() - int(start_time))}" if start_time else ""
    )


def sum_seconds(steps: list) -> float:
    """Seconds that the steps took when they ran; 0 for a step that is not finished."""
    return sum(read_step_record(step.folder).get("seconds", 0.0) for step in steps)
