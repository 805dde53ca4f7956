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
    rows = [_build_step_row(name, record) for name, record in records.items()]
    table = Table(["step", "time", "peak memory", "commit"], rows)
    return [table, *_describe_versions(list(records.values())), *_build_settings_blocks(run, records)]


def _describe_versions(records: list[dict]) -> list[str]:
    """The package versions that the steps ran with, a line for each set of them; today's before any step has run."""
    versions = {tuple(record["versions"].items()) for record in records if "versions" in record}
    versions = versions or {tuple(runs.package_versions().items())}
    note = ["The steps ran with different versions."] if len(versions) > 1 else []
    return note + [", ".join(f"{name} {number}" for name, number in packages) for packages in sorted(versions)]


def _build_settings_blocks(run: RunFiles, records: dict[str, dict]) -> list[FoldedBlock]:
    """The recipe and the settings of each step as YAML, folded away."""
    settings = {f"recipe {run.recipe.name}": run.recipe.model_dump()}
    settings |= {f"settings of {name}": records[name]["config"] for name in records if _is_first_fold(name, records)}
    return [FoldedBlock(title, text=yaml.safe_dump(values, sort_keys=False)) for title, values in settings.items()]


def _build_step_row(name: str, record: dict) -> list[str]:
    commit = (record.get("commit") or "–")[:9] + (" (adopted)" if record.get("adopted") else "")
    return [name, format_duration(record["seconds"]), _format_memory(record), commit]


def _read_run_records(run: RunFiles) -> dict[str, dict]:
    """The run.json of every finished step, in their order, and doctor.json as that of the data check; by step."""
    paths, recipe = run.paths, run.recipe
    prepare_folders = {"prepare": paths.prepared_folder, "folds": paths.folds_csv.parent}
    step_folders = {str(folder.relative_to(paths.run_folder)): folder for folder in list_step_folders(recipe, paths)}
    records = {name: read_step_record(folder) for name, folder in prepare_folders.items()}
    records["doctor"] = _find_doctor_record(run)
    records |= {name: read_step_record(folder) for name, folder in step_folders.items()}
    return {name: record for name, record in records.items() if record}


def list_step_folders(recipe: Recipe, paths: Paths) -> list[Path]:
    """The folders of the recipe's steps, stage 0's substeps among them; folders of other settings are not listed."""
    detector = read_detector_settings(recipe.stage0)
    model_steps = [build_fit_step(recipe, paths, detector, fold) for fold in range(detector.cross_validation)]
    stage_steps = chain(*list_steps_by_stage(recipe, paths).values())
    return [step.folder for step in (*model_steps, build_detect_step(recipe, paths, detector), *stage_steps)]


def _find_doctor_record(run: RunFiles) -> dict | None:
    try:
        return run.doctor_record
    except UsageError:
        return None


def _is_first_fold(name: str, records: dict) -> bool:
    """Whether to show a step's settings: folds share them, so only the first shows them; the data check has none."""
    parent, _, folder_name = name.rpartition("/")
    fold_names = [other_name for other_name in records if other_name.startswith(f"{parent}/fold")]
    return "config" in records[name] and (not folder_name.startswith("fold") or name == min(fold_names, default=name))


def _format_memory(record: dict) -> str:
    peak = record.get("peak_bytes")
    return "–" if peak is None else f"{peak / 1e9:.1f} GB"
