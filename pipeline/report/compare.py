"""Two runs side by side in one page: every metric's difference, both ROC curves, both headlines."""

import time
from pathlib import Path

import pandas as pd

from cxr.files import read_json, write_text
from cxr.metrics import shown
from cxr.panel import PARTS
from pipeline.compare import cases_of, compared, on_common_images
from pipeline.figure import BLUE, ORANGE
from pipeline.report import headline, page, ranking
from pipeline.report.blocks import Chapter, Picture, Row, Table, with_interval

RESAMPLES, SEED = 2000, 1
SPLITS = {"held_out": "held-out", "test": "test"}


def write(first: Path, second: Path, out: Path) -> None:
    """Write the page of two run folders; UsageError where they cannot be compared."""
    found = compared(first, second, RESAMPLES, SEED, None)
    cases = [cases_of(run) for run in (first, second)]
    names = [f"A: {first.name}", f"B: {second.name}"]
    chapters = [Chapter(name, SPLITS[name], _part(name, found, cases, names)) for name in PARTS if found[name]]
    own = dict(zip(names, (first, second), strict=True))
    chapters.append(page.chapter(own, "headlines", "Each run on all its own images", _headlines))
    lines = [*names, f"on {found['dataset']}; made {time.strftime('%Y-%m-%d %H:%M')}", _method(found)]
    title = f"{first.name} and {second.name} on {found['dataset']}"
    write_text(out, page.rendered(title, lines, chapters))


def _method(found: dict) -> str:
    return f"95 % intervals and p: {found['method']}; {found['resamples']:,} resamples, the same for both runs."


def _part(name: str, found: dict, cases: list[pd.DataFrame], names: list[str]) -> list:
    """The images that both runs judged: differences, and both curves in one plot."""
    part, split = found[name], PARTS[name]
    described = f"{part['images']:,} images ({part['positives']:,} with a pneumothorax) that both runs judged, "
    described += f"resampled {part['resampled']}; predictive values at a prevalence of {part['prevalence']:.1%}."
    rows = [_row(metric, part["metrics"][metric]) for metric in headline.METRICS if metric in part["metrics"]]
    curves = _curves([table[table["split"] == split] for table in cases], names)
    return [described, *curves, Table(["", "A", "B", "B - A", "95 % interval", "p"], rows)]


def _row(metric: str, row: dict) -> list[str]:
    interval = {"value": row["difference"], "low": row["low"], "high": row["high"]}
    values = [shown(row["first"]), shown(row["second"]), *_split(with_interval(interval))]
    return [headline.METRICS[metric], *values, _chance(row["p"])]


def _split(text: str) -> tuple[str, str]:
    value, _, interval = text.partition("\N{NO-BREAK SPACE}")
    return value, interval.strip("()") or "–"


def _chance(p: float | None) -> str:
    return "<.001" if p is not None and p < 0.001 else shown(p)


def _curves(cases: list[pd.DataFrame], names: list[str]) -> list[Row]:
    common = dict(zip("AB", on_common_images(*cases), strict=True))
    if common["A"]["label"].nunique() < 2:
        return []
    return [Row([_roc(common, names)])]


def _roc(common: dict[str, pd.DataFrame], names: list[str]) -> Picture:
    return ranking.roc(common, {"A": (names[0], BLUE), "B": (names[1], ORANGE)})


def _headlines(runs: dict[str, Path]) -> list:
    """Both panels, part by part; a run without one is left out."""
    panels = {name: read_json(run / "stage3" / "panel.json") for name, run in runs.items()}
    missing = [f"{name}: stage3/panel.json is missing." for name, found in panels.items() if not found]
    columns = {
        f"{name}, {SPLITS[part]}": found[part]
        for part in PARTS for name, found in panels.items() if found and found.get(part)
    }  # fmt: skip
    return [*missing, headline.table(columns)] if columns else missing
