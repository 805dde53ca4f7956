"""What the run was made with: settings, versions, time and peak memory of each step."""

from itertools import chain
from pathlib import Path

import yaml

from cxr import runs
from cxr.errors import UsageError
from cxr.paths import Paths
from cxr.progress import format_duration
from cxr.recipe import Recipe
from pipeline.report.blocks import FoldedBlock, Table
from pipeline.run_files import RunFiles, read_step_record
from pipeline.stages import list_steps_by_stage
from stage0_bbox.config import build_detect_step, build_fit_step, read_detector_settings


def build_blocks(run: RunFiles) -> list:
    """A row for each step, and the settings folded away."""
    records = _read_run_records(run)
    table = Table(
        ["step", "time", "peak memory", "commit"], [_step_row(name, record) for name, record in records.items()]
    )
    versions = {tuple(record["versions"].items()) for record in records.values() if "versions" in record}
    versions = versions or {tuple(runs.package_versions().items())}
    settings_by_title = {f"recipe {run.recipe.name}": run.recipe.model_dump()}
    settings_by_title |= {
        f"settings of {name}": records[name]["config"] for name in records if _is_first_fold(name, records)
    }
    settings_blocks = [
        FoldedBlock(title, text=yaml.safe_dump(values, sort_keys=False)) for title, values in settings_by_title.items()
    ]
    version_lines = [
        ", ".join(f"{name} {number}" for name, number in version_items) for version_items in sorted(versions)
    ]
    version_note = ["The steps ran with different versions."] if len(versions) > 1 else []
    return [table, *version_note, *version_lines, *settings_blocks]


def _step_row(name: str, record: dict) -> list[str]:
    commit = (record.get("commit") or "–")[:9] + (" (adopted)" if record.get("adopted") else "")
    return [name, format_duration(record["seconds"]), _format_memory(record), commit]


def _read_run_records(run: RunFiles) -> dict[str, dict]:
    """What every step of the run noted of itself, in their order; the doctor's is doctor.json."""
    paths, recipe = run.paths, run.recipe
    prepare_folders = {"prepare": paths.prepared_folder, "folds": paths.folds_csv.parent}
    step_folders = {str(folder.relative_to(paths.run_folder)): folder for folder in list_step_folders(recipe, paths)}
    records = {name: read_step_record(folder) for name, folder in prepare_folders.items()} | {
        "doctor": _find_doctor_record(run)
    }
    records |= {name: read_step_record(folder) for name, folder in step_folders.items()}
    return {name: record for name, record in records.items() if record}


def list_step_folders(recipe: Recipe, paths: Paths) -> list[Path]:
    """Where the run's steps end up, stage 0's own among them; other settings may have left more beside them."""
    detector = read_detector_settings(recipe.stage0)
    model_steps = [build_fit_step(recipe, paths, detector, fold) for fold in range(detector.cross_validation)]
    steps = [
        *model_steps,
        build_detect_step(recipe, paths, detector),
        *chain(*list_steps_by_stage(recipe, paths).values()),
    ]
    return [step.folder for step in steps]


def _find_doctor_record(run: RunFiles) -> dict | None:
    try:
        return run.doctor_record
    except UsageError:
        return None


def _is_first_fold(name: str, records: dict) -> bool:
    """Folds share their settings: those of the first are shown. The doctor has none."""
    parent, _, folder_name = name.rpartition("/")
    fold_names = [other_name for other_name in records if other_name.startswith(f"{parent}/fold")]
    return "config" in records[name] and (not folder_name.startswith("fold") or name == min(fold_names, default=name))


def _format_memory(record: dict) -> str:
    peak = record.get("peak_bytes")
    return "–" if peak is None else f"{peak / 1e9:.1f} GB"
