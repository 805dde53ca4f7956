"""Test scores of all published systems at one small equal budget on phantoms: do they all work? Not a ranking.

python -m bench.recipes [--minutes 1] [--seeds 3] [--size 96] [--home FOLDER]

Every system trains from random weights on the same images, boxes and fold for the same minutes, which are divided
evenly among its trainings; its views are reduced to --size. The scores are those of test phantoms of other patients,
whose truth is known. Printed: a table in Markdown, mean and 95 % interval over the seeds.
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
from pipeline.stages import list_steps

SYSTEMS = ("dw_hwang", "reyvaz", "nguyen", "prasadsawant", "erinqhu", "sneddy", "amirassov")
PHANTOMS = {"train": "160", "test": "100", "size": "256", "positive-share": "0.4"}
BOXES = {
    "about": "chest boxes for all systems", "prepared_size": 256, "folds": 2, "subfolds": 4,
    "stage0": "fasterrcnn_small", "stage1": [], "stage2": [], "stage3": "smoke",
}  # fmt: skip
STAGES = ("stage1", "stage2", "stage3")
COLUMNS = {"stack AUC": ("stack", "auc"), "Kaggle Dice": ("kaggle_dice",), "positives Dice": ("positives_dice",)}


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.recipes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="of training for each system and seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=96, help="side of a system's largest view")
    parser.add_argument("--home", type=Path, help="folder that keeps the runs; finished ones are not repeated")
    arguments = parser.parse_args()
    if arguments.home:
        compare_systems(arguments.home.resolve(), arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare_systems(Path(folder), arguments)


def compare_systems(home: Path, arguments: argparse.Namespace) -> None:
    """Run every system with every seed in `home`, and print the table."""
    os.environ |= {"CXR_HOME": str(home), "CXR_PLAIN": "1"}
    os.environ.pop("SMOKE", None)
    data = home / "phantoms"
    if not data.exists():
        run_module("phantom.make", str(data), *format_options(PHANTOMS))
    prepare_boxes(home, data)
    rows = {
        system: [score_system(system, seed, home, data, arguments) for seed in range(1, arguments.seeds + 1)]
        for system in SYSTEMS
    }
    print(format_systems_table(rows, arguments))


def prepare_boxes(home: Path, data: Path) -> None:
    """Prepare the images and find their chest boxes, once for all systems."""
    path = home / "boxes.yaml"
    path.write_text(yaml.safe_dump(BOXES, sort_keys=False))
    os.environ |= {"RECIPE": str(path), "DATA": str(data)}
    options = {"size": BOXES["prepared_size"], "folds": BOXES["folds"], "subfolds": BOXES["subfolds"], "seed": 1}
    run_module("prepare", "--data", str(data), *format_options(options))
    run_module("stage0_bbox.train")


def format_options(options: dict[str, object]) -> list[str]:
    """Options of a command line: --name value ..."""
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def copy_boxes(home: Path, data: Path, paths: Paths) -> None:
    """Copy the folds and the boxes that all systems share into a run's paths."""
    shared_paths = recipes.read_recipe(home / "boxes.yaml").build_paths(data)
    for source, target in ((shared_paths.folds_csv, paths.folds_csv), (shared_paths.boxes_csv, paths.boxes_csv)):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def score_system(system: str, seed: int, home: Path, data: Path, arguments: argparse.Namespace) -> dict:
    """Test figures of one system with one seed, from a run or from the file that an earlier run left.

    system: name of its recipe, without .yaml
    seed: of its trainings
    home: folder of all runs
    data: the phantoms
    arguments: of the command; minutes and size are used here
    Returns the figures under "test" in results.json.
    """
    recipe = limit_recipe(system, seed, arguments, data)
    figures_path = home / "figures" / f"{system}-{seed}.json"
    if (figures_record := read_json(figures_path)) and figures_record["recipe"] == recipe.model_dump(mode="json"):
        return figures_record["test"]
    test_figures = run_system(home / f"{system}-{seed}.yaml", recipe, home, data)
    write_json(figures_path, {"recipe": recipe.model_dump(mode="json"), "test": test_figures})
    return test_figures


def run_system(path: Path, recipe: Recipe, home: Path, data: Path) -> dict:
    """Run all stages of a recipe and remove the run's folder.

    path: of the recipe's file, which is written; it names the run
    recipe: what to run
    home: folder of all runs, with the boxes
    data: the phantoms
    Returns the figures under "test" in results.json.
    """
    path.write_text(yaml.safe_dump(recipe.model_dump(exclude={"name"}), sort_keys=False))
    os.environ["RECIPE"] = str(path)
    paths = recipe.model_copy(update={"name": path.stem}).build_paths(data)
    copy_boxes(home, data, paths)
    for module in dict.fromkeys(step.command[0] for stage in STAGES for step in list_stage_steps(stage, recipe, data)):
        run_module(module)
    run_module("stage3_stack.results.table")
    test_figures = (read_json(paths.run_folder / "results.json") or {})["test"]
    shutil.rmtree(paths.run_folder)
    return test_figures


def limit_recipe(system: str, seed: int, arguments: argparse.Namespace, data: Path) -> Recipe:
    """The published recipe within the budget: one fold of two, the minutes divided among its trainings.

    system: name of its recipe, without .yaml
    seed: of its trainings
    arguments: of the command; minutes and size are used here
    data: the phantoms
    """
    update = {key: BOXES[key] for key in ("prepared_size", "folds", "subfolds", "stage0")}
    update |= {"train_folds": [0], "seed": seed}
    small_settings = {"size": arguments.size, "batch": 8, "epochs": 12, "epoch_batches": None, "steps": 100}
    recipe = recipes.read_recipe(ROOT / "recipes" / f"{system}.yaml").model_copy(update=update)
    recipe = recipe.model_copy(update={"small": recipes.SmallTrial(**small_settings)})
    network_steps = [step for stage in STAGES[:2] for step in list_stage_steps(stage, recipe, data)]
    training_count = sum(step.command[0].endswith(".train") for step in network_steps)
    small_settings["minutes"] = round(arguments.minutes / training_count, 3)
    return recipe.model_copy(update={"small": recipes.SmallTrial(**small_settings)})


def list_stage_steps(stage: str, recipe: Recipe, data: Path) -> list:
    return list_steps(stage, recipe, recipe.build_paths(data))


def run_module(module: str, *arguments: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=sys.stderr, env=os.environ, check=False
    )
    if process.returncode:
        raise UsageError(f"python -m {module} ended with exit code {process.returncode}")


def format_systems_table(rows: dict[str, list[dict]], arguments: argparse.Namespace) -> str:
    """Mean and 95 % interval over the seeds (Student's t), in Markdown."""
    lines = [f"| {arguments.minutes:g} minutes, {arguments.seeds} seeds | {' | '.join(COLUMNS)} |"]
    lines.append("|---|" + "--:|" * len(COLUMNS))
    for system, figures in rows.items():
        cells = [
            format_interval([get_nested_figure(run_figures, keys) for run_figures in figures])
            for keys in COLUMNS.values()
        ]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    lines.append(
        f"| every mask empty | – | {format_interval([get_nested_figure(rows[SYSTEMS[0]][0], ('floor',))])} | 0 |"
    )
    return "\n".join(lines)


def get_nested_figure(figures: dict, keys: tuple[str, ...]) -> float | None:
    for key in keys:
        figures = (figures or {}).get(key)
    return figures


def format_interval(values: list[float | None]) -> str:
    """'.812 (.790 to .834)'; a dash where there is no such figure."""
    scores = np.array([value for value in values if value is not None])
    if not len(scores):
        return "–"
    if len(scores) == 1:
        return f"{scores[0]:.3f}"
    half_width = stats.t.ppf(0.975, len(scores) - 1) * scores.std(ddof=1) / np.sqrt(len(scores))
    return f"{scores.mean():.3f} ({scores.mean() - half_width:.3f} to {scores.mean() + half_width:.3f})"


if __name__ == "__main__":
    run_main(main)
