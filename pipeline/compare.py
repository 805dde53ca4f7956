"""Compare two runs on the images that both scored: every metric's difference with its interval and p-value.

python -m pipeline.compare RUN_A RUN_B [--resamples 2000] [--seed 1] [--prevalence .2] [--out FILE.json]
RUN: a run's folder, artifacts/<dataset>/<recipe>. Patients are resampled, the same for both runs.
"""

import argparse
import textwrap
from pathlib import Path

import pandas as pd

from cxr.errors import UsageError, run_main
from cxr.files import write_json
from cxr.paths import resolve_user_path
from evaluation import paired_differences
from evaluation.metrics import format_metric
from evaluation.panel import PARTS, resolve_prevalence
from evaluation.resampling import number_patients
from pipeline.run_files import read_run_cases

TRUTH_COLUMNS = ("label", "truth")
"""Columns of the hand-drawn truth: they must be equal in both runs."""


def main() -> None:
    arguments = parse_arguments()
    run_folders = [resolve_user_path(run) for run in (arguments.first, arguments.second)]
    comparison = compare_runs(*run_folders, arguments.resamples, arguments.seed, arguments.prevalence)
    default_out = run_folders[0] / "compare" / f"{run_folders[1].name}.json"
    out = resolve_user_path(arguments.out) if arguments.out else default_out
    write_json(out, comparison)
    print(render_comparison(comparison))
    print(out)


def parse_arguments() -> argparse.Namespace:
    """The command line; UsageError where there are too few resamples."""
    parser = argparse.ArgumentParser(
        prog="pipeline.compare", description="Compare two runs on the images that both scored."
    )
    parser.add_argument("first", metavar="RUN_A", help="folder of a run: artifacts/<dataset>/<recipe>")
    parser.add_argument("second", metavar="RUN_B", help="folder of another run on the same data")
    parser.add_argument("--resamples", type=int, default=2000, help="resamples of the patients (2000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--prevalence", type=float, help="prevalence for the predictive values, 0 to 1; by default that of the images"
    )
    parser.add_argument("--out", help="the JSON file; by default RUN_A/compare/<RUN_B's name>.json")
    arguments = parser.parse_args()
    if arguments.resamples < 100:
        raise UsageError(f"--resamples {arguments.resamples}: an interval needs at least 100, 2000 are usual")
    return arguments


def compare_runs(first_run: Path, second_run: Path, resamples: int, seed: int, prevalence: float | None) -> dict:
    """Compare two runs on the same data, for held-out and for test images.

    first_run, second_run: folders of runs, artifacts/<dataset>/<recipe>
    resamples: bootstrap resamples of the patients, the same for both runs, at least 100
    seed: of the resamples
    prevalence: for the predictive values, above 0 and below 1; None takes that of the common images

    Returns first, second, dataset (names), method (a sentence), resamples, seed, and `compare_split`'s dict as held_out
    and as test, None where no image is common. Raises UsageError where the runs are of different data or have no image
    in common, DataError where a table of cases is damaged.
    """
    if first_run.parent.name != second_run.parent.name:
        raise UsageError(
            f"runs of different data: {first_run} is of {first_run.parent.name}, "
            f"{second_run} of {second_run.parent.name}"
        )
    cases = [read_run_cases(run) for run in (first_run, second_run)]
    comparison = {
        "first": first_run.name, "second": second_run.name, "dataset": first_run.parent.name,
        "method": paired_differences.METHOD, "resamples": resamples, "seed": seed,
    }  # fmt: skip
    for name, split in PARTS.items():
        common_cases = select_common_images(*(table[table["split"] == split] for table in cases))
        comparison[name] = compare_split(*common_cases, resamples, seed, prevalence) if common_cases else None
    if not any(comparison[name] for name in PARTS):
        raise UsageError(f"{first_run} and {second_run} have no image in common that both scored in the same split")
    return comparison


def select_common_images(
    first_cases: pd.DataFrame, second_cases: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Rows of the images in both tables, in the same order; None without any. UsageError where their truths differ."""
    common_ids = sorted(set(first_cases["image_id"]) & set(second_cases["image_id"]))
    if not common_ids:
        return None
    first_cases, second_cases = (
        table.set_index("image_id", drop=False).loc[common_ids] for table in (first_cases, second_cases)
    )
    for column in TRUTH_COLUMNS:
        if (mismatches := first_cases[column] != second_cases[column]).any():
            raise UsageError(f"runs of different data: {column} of image {mismatches.idxmax()} is not the same in both")
    patient = first_cases["patient"].fillna(second_cases["patient"])  # patients.csv may have come between the runs
    return tuple(table.assign(patient=patient).reset_index(drop=True) for table in (first_cases, second_cases))


def compare_split(
    first_cases: pd.DataFrame, second_cases: pd.DataFrame, resamples: int, seed: int, prevalence: float | None
) -> dict:
    """Every metric's difference on one split.

    first_cases, second_cases: tables.CASES of the same images, in the same order
    resamples: bootstrap resamples of the patients
    seed: of the resamples
    prevalence: for the predictive values, above 0 and below 1; None takes that of the images

    Returns images and positives (counts), resampled (by patient or by image), prevalence, and metrics: a row of
    first, second, difference, low, high and p for each, see evaluation.paired_differences.
    """
    stated_prevalence = resolve_prevalence(first_cases, prevalence)
    return {
        "images": len(first_cases),
        "positives": int((first_cases["label"] > 0.5).sum()),
        "resampled": "by patient" if number_patients(first_cases)[1] else "by image, too narrow",
        "prevalence": stated_prevalence,
        "metrics": paired_differences.compare_models(first_cases, second_cases, resamples, seed, stated_prevalence),
    }


def render_comparison(comparison: dict) -> str:
    """The comparison as a table for the terminal."""
    lines = [f"A: {comparison['first']}   B: {comparison['second']}   on {comparison['dataset']}"]
    for name in PARTS:
        lines += ["", *_split_lines(name.replace("_", "-"), comparison[name])] if comparison[name] else []
    return "\n".join([*lines, "", textwrap.fill(f"95 % intervals and p: {comparison['method']}.", 100)])


def _split_lines(name: str, part: dict) -> list[str]:
    title = f"{name}: {part['images']} images ({part['positives']} positive), resampled {part['resampled']}"
    title += f"; ppv and npv at prevalence {format_metric(part['prevalence'])}"
    header = f"{'':32}{'A':>7}{'B':>7}{'B - A':>8}   {'95 % interval':15}{'p':>6}"
    return [title, header, *(_metric_line(metric, row) for metric, row in part["metrics"].items())]


def _metric_line(metric: str, row: dict) -> str:
    values = "".join(
        f"{format_metric(row[key]):>{width}}" for key, width in {"first": 7, "second": 7, "difference": 8}.items()
    )
    interval = f"{format_metric(row['low'])} to {format_metric(row['high'])}"
    return f"{metric.replace('_', ' '):32}{values}   {interval:15}{format_p_value(row['p']):>6}"


def format_p_value(p: float | None) -> str:
    """A p-value for a table: '.034', '<.001', a dash for None."""
    return "<.001" if p is not None and p < 0.001 else format_metric(p)


if __name__ == "__main__":
    run_main(main)
