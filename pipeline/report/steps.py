"""What the run was made with: settings, versions, time and peak memory of each step."""

from pathlib import Path

import yaml

from cxr import runs
from cxr.files import read_json
from cxr.progress import clock
from pipeline.report.blocks import Folded, Table
from pipeline.report.sources import Sources


def blocks(run: Sources) -> list:
    """A row for each step, and the settings folded away."""
    records = {name: record for name, path in _places(run) if (record := read_json(path))}
    table = Table(["step", "time", "peak memory", "commit"], [_row(name, record) for name, record in records.items()])
    versions = {tuple(record["versions"].items()) for record in records.values()} or {tuple(runs.versions().items())}
    settings = {f"recipe {run.recipe.name}": run.recipe.model_dump()}
    settings |= {f"settings of {name}": record["config"] for name, record in records.items() if _first(name, records)}
    folded = [Folded(title, text=yaml.safe_dump(values, sort_keys=False)) for title, values in settings.items()]
    words = [", ".join(f"{name} {number}" for name, number in one) for one in sorted(versions)]
    different = ["The steps ran with different versions."] if len(versions) > 1 else []
    return [table, *different, *words, *folded]


def _row(name: str, record: dict) -> list[str]:
    return [name, clock(record["seconds"]), _memory(record), (record["commit"] or "–")[:9]]


def _places(run: Sources) -> list[tuple[str, Path]]:
    """Name and run.json of every step, in the order of the stages."""
    own = sorted(path for path in run.paths.run.rglob("run.json"))
    prepared = run.paths.prepared / "run.json"
    return [("prepare", prepared), *((str(path.parent.relative_to(run.paths.run)), path) for path in own)]


def _first(name: str, records: dict) -> bool:
    """Folds share their settings: those of the first are shown."""
    parent, _, last = name.rpartition("/")
    return not last.startswith("fold") or name == min(other for other in records if other.startswith(f"{parent}/fold"))


def _memory(record: dict) -> str:
    peak = record.get("peak_bytes")
    return "–" if peak is None else f"{peak / 1e9:.1f} GB"
