"""Two runs side by side on the images that both judged: every metric's difference with its interval and p.

python -m pipeline.compare RUN_A RUN_B [--resamples 2000] [--seed 1] [--prevalence .2] [--out FILE.json]
RUN: a run's folder, artifacts/<dataset>/<recipe>. Patients are resampled, the same for both runs.
"""

import argparse
import textwrap
from pathlib import Path

import pandas as pd

from cxr.errors import DataError, UsageError, run_main
from cxr.files import write_json
from cxr.metrics import shown
from cxr.panel import PARTS, checked, paired, prevalence_of
from cxr.panel.resample import patients
from cxr.paths import as_meant
from cxr.tables import CASES, read

STEP = "the run's stage 3 (RECIPE=<recipe> DATA=<folder> bash run_all.sh)"
SAME = ("label", "truth")
"""What must be equal of an image: the columns of its hand-drawn truth."""


def main() -> None:
    asked = arguments()
    runs = [as_meant(run) for run in (asked.first, asked.second)]
    found = compared(*runs, asked.resamples, asked.seed, asked.prevalence)
    out = as_meant(asked.out) if asked.out else runs[0] / "compare" / f"{runs[1].name}.json"
    write_json(out, found)
    print(rendered(found))
    print(out)


def arguments() -> argparse.Namespace:
    """The command line; UsageError where a number means nothing."""
    parser = argparse.ArgumentParser(prog="pipeline.compare", description="Two runs on the images that both judged.")
    parser.add_argument("first", metavar="RUN_A", help="folder of a run: artifacts/<dataset>/<recipe>")
    parser.add_argument("second", metavar="RUN_B", help="folder of another run on the same data")
    parser.add_argument("--resamples", type=int, default=2000, help="of the patients (2000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prevalence", type=float, help="of the predictive values; by default the images' own")
    parser.add_argument("--out", help="the JSON file; by default RUN_A/compare/<RUN_B's name>.json")
    asked = parser.parse_args()
    if asked.resamples < 100:
        raise UsageError(f"--resamples {asked.resamples}: an interval needs at least 100, 2000 are usual")
    return asked


def compared(first: Path, second: Path, resamples: int, seed: int, prevalence: float | None) -> dict:
    """The comparison of two run folders, for held-out and test images; UsageError where they cannot be compared."""
    if first.parent.name != second.parent.name:
        raise UsageError(f"runs of different data: {first} is of {first.parent.name}, {second} of {second.parent.name}")
    cases = [cases_of(run) for run in (first, second)]
    found = {"first": first.name, "second": second.name, "dataset": first.parent.name, "method": paired.METHOD}
    found |= {"resamples": resamples, "seed": seed}
    for name, split in PARTS.items():
        common = on_common_images(*(table[table["split"] == split] for table in cases))
        found[name] = part(*common, resamples, seed, prevalence) if common else None
    if not any(found[name] for name in PARTS):
        raise UsageError(f"{first} and {second} have no image in common that both judged in the same split")
    return found


def cases_of(run: Path) -> pd.DataFrame:
    """What a run judged, of stage3/cases.parquet; UsageError where it is missing, DataError where it is damaged."""
    path = run / "stage3" / "cases.parquet"
    try:
        return checked(read(path, CASES, STEP))
    except (OSError, ValueError) as error:  # pyarrow's are of these
        raise DataError(f"{path} cannot be read ({error}); FORCE=1 makes it anew, with {STEP}") from None


def on_common_images(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Both tables' rows of the images in both, in one order; None without any. UsageError where their truths differ."""
    common = sorted(set(first["image_id"]) & set(second["image_id"]))
    if not common:
        return None
    first, second = (table.set_index("image_id", drop=False).loc[common] for table in (first, second))
    for column in SAME:
        if (differs := first[column] != second[column]).any():
            raise UsageError(f"runs of different data: {column} of image {differs.idxmax()} is not the same in both")
    patient = first["patient"].fillna(second["patient"])  # patients.csv may have come between the runs
    return tuple(table.assign(patient=patient).reset_index(drop=True) for table in (first, second))


def part(first: pd.DataFrame, second: pd.DataFrame, resamples: int, seed: int, prevalence: float | None) -> dict:
    """images, positives, resampled, prevalence, and every metric's difference."""
    stated = prevalence_of(first, prevalence)
    return {
        "images": len(first),
        "positives": int((first["label"] > 0.5).sum()),
        "resampled": "by patient" if patients(first)[1] else "by image, too narrow",
        "prevalence": stated,
        "metrics": paired.differences(first, second, resamples, seed, stated),
    }


def rendered(found: dict) -> str:
    """The comparison as a table for the terminal."""
    lines = [f"A: {found['first']}   B: {found['second']}   on {found['dataset']}"]
    for name in PARTS:
        lines += ["", *_part(name.replace("_", "-"), found[name])] if found[name] else []
    return "\n".join([*lines, "", textwrap.fill(f"95 % intervals and p: {found['method']}.", 100)])


def _part(name: str, found: dict) -> list[str]:
    title = f"{name}: {found['images']} images ({found['positives']} positive), resampled {found['resampled']}"
    title += f"; ppv and npv at prevalence {shown(found['prevalence'])}"
    header = f"{'':32}{'A':>7}{'B':>7}{'B - A':>8}   {'95 % interval':15}{'p':>6}"
    return [title, header, *(_row(metric, row) for metric, row in found["metrics"].items())]


def _row(metric: str, row: dict) -> str:
    values = "".join(f"{shown(row[key]):>{width}}" for key, width in {"first": 7, "second": 7, "difference": 8}.items())
    interval = f"{shown(row['low'])} to {shown(row['high'])}"
    return f"{metric.replace('_', ' '):32}{values}   {interval:15}{_chance(row['p']):>6}"


def _chance(p: float | None) -> str:
    return "<.001" if p is not None and p < 0.001 else shown(p)


if __name__ == "__main__":
    run_main(main)
