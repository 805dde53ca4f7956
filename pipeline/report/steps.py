"""What the run was made with: settings, versions, time and peak memory of each step."""

from itertools import chain
from pathlib import Path

import yaml

from cxr import runs
from cxr.errors import UsageError
from cxr.files import read_json
from cxr.paths import Paths
from cxr.progress import clock
from cxr.recipe import Recipe
from pipeline.report.blocks import Folded, Table
from pipeline.report.sources import Sources
from pipeline.stages import every_unit
from stage0_bbox.config import detect_unit, fit_unit, read


def blocks(run: Sources) -> list:
    """A row for each step, and the settings folded away."""
    records = _records(run)
    table = Table(["step", "time", "peak memory", "commit"], [_row(name, record) for name, record in records.items()])
    versions = {tuple(record["versions"].items()) for record in records.values() if "versions" in record}
    versions = versions or {tuple(runs.versions().items())}
    settings = {f"recipe {run.recipe.name}": run.recipe.model_dump()}
    settings |= {f"settings of {name}": records[name]["config"] for name in records if _first(name, records)}
    folded = [Folded(title, text=yaml.safe_dump(values, sort_keys=False)) for title, values in settings.items()]
    words = [", ".join(f"{name} {number}" for name, number in one) for one in sorted(versions)]
    different = ["The steps ran with different versions."] if len(versions) > 1 else []
    return [table, *different, *words, *folded]


def _row(name: str, record: dict) -> list[str]:
    commit = (record.get("commit") or "–")[:9] + (" (adopted)" if record.get("adopted") else "")
    return [name, clock(record["seconds"]), _memory(record), commit]


def _records(run: Sources) -> dict[str, dict]:
    """What every step of the run noted of itself, in their order; the doctor's is doctor.json."""
    paths, recipe = run.paths, run.recipe
    before = {"prepare": paths.prepared, "folds": paths.folds.parent}
    own = {str(folder.relative_to(paths.run)): folder for folder in folders(recipe, paths)}
    found = {name: read_json(folder / "run.json") for name, folder in before.items()} | {"doctor": _doctor(run)}
    found |= {name: read_json(folder / "run.json") for name, folder in own.items()}
    return {name: record for name, record in found.items() if record}


def folders(recipe: Recipe, paths: Paths) -> list[Path]:
    """Where the run's steps end up, stage 0's own among them; other settings may have left more beside them."""
    detector = read(recipe.stage0)
    models = [fit_unit(recipe, paths, detector, fold) for fold in range(detector.cross_validation)]
    units = [*models, detect_unit(recipe, paths, detector), *chain(*every_unit(recipe, paths).values())]
    return [unit.folder for unit in units]


def _doctor(run: Sources) -> dict | None:
    try:
        return run.doctor
    except UsageError:
        return None


def _first(name: str, records: dict) -> bool:
    """Folds share their settings: those of the first are shown. The doctor has none."""
    parent, _, last = name.rpartition("/")
    folds = [other for other in records if other.startswith(f"{parent}/fold")]
    return "config" in records[name] and (not last.startswith("fold") or name == min(folds, default=name))


def _memory(record: dict) -> str:
    peak = record.get("peak_bytes")
    return "–" if peak is None else f"{peak / 1e9:.1f} GB"
