"""Two runs side by side in one page: every metric's difference, both ROC curves, both tables of metrics."""

import time
from pathlib import Path

import pandas as pd

from cxr.files import write_text
from evaluation.metrics import format_metric
from evaluation.panel import PARTS
from pipeline.compare import compare_runs, format_p_value, select_common_images
from pipeline.pictures.figure import BLUE, ORANGE
from pipeline.report import headline, page, ranking
from pipeline.report.blocks import Chapter, Picture, PictureRow, Table, format_with_interval
from pipeline.run_files import read_metric_panel, read_run_cases

RESAMPLES, SEED = 2000, 1


def write_comparison(first_run: Path, second_run: Path, out: Path) -> None:
    """Write the page of two run folders; UsageError where they cannot be compared."""
    comparison = compare_runs(first_run, second_run, RESAMPLES, SEED, None)
    cases = [read_run_cases(run) for run in (first_run, second_run)]
    names = [f"A: {first_run.name}", f"B: {second_run.name}"]
    chapters = [
        Chapter(name, headline.PART_TITLES[name], _build_split_blocks(name, comparison, cases, names))
        for name in PARTS
        if comparison[name]
    ]
    folders_by_name = dict(zip(names, (first_run, second_run), strict=True))
    title = "Each run on all its own images"
    chapters.append(page.build_chapter(folders_by_name, "headlines", title, _build_headlines))
    made = f"on {comparison['dataset']}; made {time.strftime('%Y-%m-%d %H:%M')}"
    lines = [*names, made, _describe_method(comparison)]
    page_title = f"{first_run.name} and {second_run.name} on {comparison['dataset']}"
    write_text(out, page.render_page(page_title, lines, chapters))


def _describe_method(comparison: dict) -> str:
    resamples = f"{comparison['resamples']:,} resamples, the same for both runs"
    return f"95 % intervals and p: {comparison['method']}; {resamples}."


def _build_split_blocks(name: str, comparison: dict, cases: list[pd.DataFrame], names: list[str]) -> list:
    """The images that both runs scored: differences, and both curves in one plot; name: a part of the comparison."""
    part, split = comparison[name], PARTS[name]
    description = f"{part['images']:,} images ({part['positives']:,} with a pneumothorax) that both runs scored, "
    description += f"resampled {part['resampled']}; predictive values at a prevalence of {part['prevalence']:.1%}."
    metrics = part["metrics"]
    rows = [_build_metric_row(metric, metrics[metric]) for metric in headline.METRIC_TITLES if metric in metrics]
    curves = _build_curves([table[table["split"] == split] for table in cases], names)
    return [description, *curves, Table(["", "A", "B", "B - A", "95 % interval", "p"], rows)]


def _build_metric_row(metric: str, row: dict) -> list[str]:
    values = [format_metric(row["first"]), format_metric(row["second"])]
    interval = format_with_interval({"value": row["difference"], "low": row["low"], "high": row["high"]})
    return [headline.METRIC_TITLES[metric], *values, *_split_interval(interval), format_p_value(row["p"])]


def _split_interval(text: str) -> tuple[str, str]:
    value, _, interval = text.partition("\N{NO-BREAK SPACE}")
    return value, interval.strip("()") or "–"


def _build_curves(cases: list[pd.DataFrame], names: list[str]) -> list[PictureRow]:
    common_cases = dict(zip("AB", select_common_images(*cases), strict=True))
    if common_cases["A"]["label"].nunique() < 2:
        return []
    return [PictureRow([_draw_common_roc(common_cases, names)])]


def _draw_common_roc(common_cases: dict[str, pd.DataFrame], names: list[str]) -> Picture:
    return ranking.draw_roc(common_cases, {"A": (names[0], BLUE), "B": (names[1], ORANGE)})


def _build_headlines(run_folders: dict[str, Path]) -> list:
    """Both runs' tables of metrics, part by part; a run without panel.json is left out, with a line."""
    panels = {name: read_metric_panel(run) for name, run in run_folders.items()}
    missing_notes = [f"{name}: stage3/panel.json is missing." for name, panel in panels.items() if not panel]
    columns = {
        f"{name}, {headline.PART_TITLES[part]}": panel[part]
        for part in PARTS for name, panel in panels.items() if panel and panel.get(part)
    }  # fmt: skip
    return [*missing_notes, headline.build_metric_table(columns)] if columns else missing_notes
