"""All published systems at one small equal budget on phantoms: a check that all work, not a ranking.

python -m bench.recipes [--minutes 1] [--seeds 3] [--size 96] [--home FOLDER]

Every system trains on the same images, boxes and fold for the same minutes, shared out evenly among its trainings;
from random weights, its members cut to --size. Scores are of test phantoms of other patients, whose truth is known.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from scipy import stats

from cxr import recipe as recipes
from cxr.errors import UsageError, run_main
from cxr.files import read_json, write_json
from cxr.paths import ROOT, Paths
from cxr.recipe import Recipe
from pipeline.stages import units

SYSTEMS = ("dw_hwang", "reyvaz", "nguyen", "prasadsawant", "erinqhu", "sneddy", "amirassov")
PHANTOMS = {"train": "160", "test": "100", "size": "256", "positive-share": "0.4"}
BOXES = {
    "about": "chest boxes for all systems", "prepared_size": 256, "folds": 2, "subfolds": 4,
    "stage0": "fasterrcnn_small", "stage1": [], "stage2": [], "stage3": "smoke",
}  # fmt: skip
STAGES = ("stage1", "stage2", "stage3")
COLUMNS = {"stack AUC": ("stack", "auc"), "Kaggle Dice": ("kaggle_dice",), "positives Dice": ("positives_dice",)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.recipes")
    parser.add_argument("--minutes", type=float, default=1.0, help="of training, for a system and a seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=96, help="side of a system's largest view")
    parser.add_argument("--home", type=Path, help="keep the runs there, and take up what is done")
    asked = parser.parse_args()
    if asked.home:
        compare(asked.home.resolve(), asked)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), asked)


def compare(home: Path, asked: argparse.Namespace) -> None:
    """Run every system with every seed, and print the table."""
    os.environ |= {"CXR_HOME": str(home), "CXR_PLAIN": "1"}
    os.environ.pop("SMOKE", None)
    data = home / "phantoms"
    if not data.exists():
        call("phantom.make", str(data), *(part for name, value in PHANTOMS.items() for part in (f"--{name}", value)))
    boxes(home, data)
    rows = {system: [one(system, seed, home, data, asked) for seed in range(1, asked.seeds + 1)] for system in SYSTEMS}
    print(table(rows, asked))


def boxes(home: Path, data: Path) -> None:
    """Prepare the images and find their chest boxes, once for all systems."""
    path = home / "boxes.yaml"
    path.write_text(yaml.safe_dump(BOXES, sort_keys=False))
    os.environ |= {"RECIPE": str(path), "DATA": str(data)}
    numbers = {"size": BOXES["prepared_size"], "folds": BOXES["folds"], "subfolds": BOXES["subfolds"], "seed": 1}
    call("cxr.prepare", "--data", str(data), *(part for k, v in numbers.items() for part in (f"--{k}", str(v))))
    call("stage0_bbox.train")


def take_boxes(home: Path, data: Path, paths: Paths) -> None:
    """Give a run the folds and the boxes that were made for all systems."""
    shared = recipes.read(home / "boxes.yaml").paths(data)
    for file, copy in ((shared.folds, paths.folds), (shared.boxes, paths.boxes)):
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def one(system: str, seed: int, home: Path, data: Path, asked: argparse.Namespace) -> dict:
    """Test figures of a system with a seed."""
    path = home / f"{system}-{seed}.yaml"
    recipe = shared_out(system, seed, asked, data)
    path.write_text(yaml.safe_dump(recipe.model_dump(exclude={"name"}), sort_keys=False))
    note = home / "figures" / f"{system}-{seed}.json"
    if (done := read_json(note)) and done["recipe"] == recipe.model_dump(mode="json"):
        return done["test"]
    os.environ["RECIPE"] = str(path)
    take_boxes(home, data, recipe.model_copy(update={"name": path.stem}).paths(data))
    for module in dict.fromkeys(unit.command[0] for stage in STAGES for unit in of(stage, recipe, data)):
        call(module)
    call("stage3_stack.table")
    test = (read_json(recipe.model_copy(update={"name": path.stem}).paths(data).run / "results.json") or {})["test"]
    write_json(note, {"recipe": recipe.model_dump(mode="json"), "test": test})
    shutil.rmtree(recipe.model_copy(update={"name": path.stem}).paths(data).run)
    return test


def shared_out(system: str, seed: int, asked: argparse.Namespace, data: Path) -> Recipe:
    """The published recipe cut to the budget: one fold of two, the minutes shared out among its trainings."""
    update = {key: BOXES[key] for key in ("prepared_size", "folds", "subfolds", "stage0")}
    update |= {"train_folds": [0], "seed": seed}
    small = {"size": asked.size, "batch": 8, "epochs": 12, "epoch_batches": None, "steps": 100}
    recipe = recipes.read(ROOT / "recipes" / f"{system}.yaml").model_copy(update=update)
    recipe = recipe.model_copy(update={"small": recipes.Small(**small)})
    networks = [unit for stage in STAGES[:2] for unit in of(stage, recipe, data)]
    trainings = sum(unit.command[0].endswith(".train") for unit in networks)
    small["minutes"] = round(asked.minutes / trainings, 3)
    return recipe.model_copy(update={"small": recipes.Small(**small)})


def of(stage: str, recipe: Recipe, data: Path) -> list:
    return units(stage, recipe, recipe.paths(data))


def call(module: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=sys.stderr, env=os.environ, check=False
    )
    if done.returncode:
        raise UsageError(f"python -m {module} ended with exit code {done.returncode}")


def table(rows: dict[str, list[dict]], asked: argparse.Namespace) -> str:
    """Mean and 95 % interval over the seeds (Student's t), in Markdown."""
    lines = [f"| {asked.minutes:g} minutes, {asked.seeds} seeds | {' | '.join(COLUMNS)} |"]
    lines.append("|---|" + "--:|" * len(COLUMNS))
    for system, figures in rows.items():
        cells = [interval([dig(each, keys) for each in figures]) for keys in COLUMNS.values()]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    lines.append(f"| every mask empty | – | {interval([dig(rows[SYSTEMS[0]][0], ('floor',))])} | 0 |")
    return "\n".join(lines)


def dig(figures: dict, keys: tuple[str, ...]) -> float | None:
    for key in keys:
        figures = (figures or {}).get(key)
    return figures


def interval(values: list[float | None]) -> str:
    """'.812 (.790 to .834)'; a dash where there is no such figure."""
    found = np.array([value for value in values if value is not None])
    if not len(found):
        return "–"
    if len(found) == 1:
        return f"{found[0]:.3f}"
    half = stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return f"{found.mean():.3f} ({found.mean() - half:.3f} to {found.mean() + half:.3f})"


if __name__ == "__main__":
    run_main(main)
