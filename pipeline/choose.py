"""Choose the recipe and the data of a run; prints them as shell exports for run_all.sh, and the reason on stderr.

[DATA=<folder>] python -m pipeline.choose [recipes/<name>.yaml] [--smoke]
"""

import difflib
import os
import shlex
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from cxr import recipe as recipes
from cxr import runs
from cxr.datasets import kaggle
from cxr.errors import UsageError, run_main
from cxr.files import read_json, write_json
from cxr.paths import ROOT, Paths, home_folder, resolve_user_path

USAGE = """usage: [DATA=<folder>] [WEIGHTS=<folder>] [FORCE=1] bash run_all.sh [recipes/<name>.yaml] [--smoke]
  --smoke  a trial in minutes: the recipe's members at their smallest, few steps, a dozen phantom patients
  DATA     a folder in the Kaggle layout; without it data/, and phantoms where that is empty
  WEIGHTS  a folder with start weights: <network>_imagenet.safetensors, say (weights/README.md)
  FORCE=1  runs steps again that are up to date"""
ON_PHANTOMS, ON_DATA = "phantom", "dw_hwang"  # recipes where none is named


def locate_phantoms() -> Path:
    """The folder of the phantoms that the project makes itself; a smoke trial has fewer, in a folder of its own."""
    return home_folder() / "artifacts" / "generated" / ("smoke" if os.environ.get("SMOKE") == "1" else "phantom")


def main() -> None:
    arguments = sys.argv[1:]
    if any(argument in ("-h", "--help") for argument in arguments):
        print(USAGE, file=sys.stderr)
        print("exit 0")
        return
    if "--smoke" in arguments:
        arguments.remove("--smoke")
        os.environ["SMOKE"] = "1"
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        raise UsageError(f"not understood: {shlex.join(arguments)}\n{USAGE}")
    environment = choose_run(arguments[0] if arguments else None)
    print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items()))


def choose_run(recipe_name: str | None) -> dict[str, str]:
    """The environment variables of a run: RECIPE, DATA, RUN_BEGAN and, where they are set, WEIGHTS, CXR_HOME and SMOKE.

    recipe_name: a recipe's name or path; None takes RECIPE or the recipe that fits the data. Raises UsageError where
    the recipe or the data does not exist, or another run holds their folders.
    """
    data, reason = choose_data()
    default_name = ON_PHANTOMS if data == locate_phantoms() else ON_DATA
    path = choose_recipe(recipe_name or os.environ.get("RECIPE") or default_name)
    recipe = recipes.read_recipe(path)
    paths = recipe.build_paths(data)
    take_over_renamed_data(paths)
    claim_artifacts(paths.artifacts_folder, data)
    recipes.claim_run_folder(path, paths.run_folder)
    print(f"{reason}\nrecipe {recipe.name}: {recipe.about}", file=sys.stderr)
    environment = {"RECIPE": str(path), "DATA": str(data), "RUN_BEGAN": str(int(time.time()))}
    environment |= {
        name: str(resolve_user_path(os.environ[name])) for name in ("WEIGHTS", "CXR_HOME") if os.environ.get(name)
    }
    environment |= {"SMOKE": "1"} if os.environ.get("SMOKE") == "1" else {}
    os.environ |= environment
    recipes.remember_choice(path, data)
    return environment


def choose_data() -> tuple[Path, str]:
    """The data folder, and the reason for it in words; UsageError where DATA names no folder."""
    if os.environ.get("DATA"):
        folder = resolve_user_path(os.environ["DATA"])
        if not folder.is_dir() and folder != locate_phantoms():
            raise UsageError(f"DATA={os.environ['DATA']}: there is no folder {folder}")
        return folder, f"data: {folder}"
    if holds_data(ROOT / "data") and os.environ.get("SMOKE") != "1":
        return (ROOT / "data").resolve(), "data: data/"
    reason = "a smoke trial" if os.environ.get("SMOKE") == "1" else "no data in data/"
    folder = locate_phantoms()
    return folder, f"{reason}: running on phantoms, in {folder} (DATA=<folder> points to other data)"


def holds_data(folder: Path) -> bool:
    """Whether there is a DICOM file or a CSV table anywhere in `folder`; a README alone is no data."""
    files = (name for _, _, names in os.walk(folder, followlinks=True) for name in names)
    return any(name.lower().endswith((".dcm", ".csv")) for name in files)


def choose_recipe(name: str) -> Path:
    """The file of a recipe.

    name: its path, relative to the caller's folder or to the project, or its bare name in recipes/. Raises UsageError
    with the nearest name where there is no such recipe.
    """
    shipped_path = ROOT / "recipes" / f"{Path(name).name.removesuffix('.yaml')}.yaml"
    user_path, project_path = resolve_user_path(name), ROOT / name
    candidates = [user_path, project_path] if name.endswith(".yaml") else [shipped_path]
    for path in candidates:
        if path.is_file():
            return path.resolve()
    names = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
    close_names = difflib.get_close_matches(shipped_path.stem, names, n=1)
    hint = f"did you mean recipes/{close_names[0]}.yaml?" if close_names else f"there are: {', '.join(names)}"
    raise UsageError(f"recipe {name} does not exist; {hint}")


def take_over_renamed_data(paths: Paths) -> None:
    """If the data folder was renamed, rename its results too, so that nothing is recomputed.

    It was renamed if another folder's results are there, that folder is gone, and its DICOM files had the same names,
    sizes and times. Raises UsageError where a run still works in these results.
    """
    if paths.artifacts_folder.is_dir() or not paths.data_folder.is_dir():
        return
    artifacts = _find_renamed_artifacts(paths)
    if artifacts is None:
        return
    old_folder = _read_source_folder(artifacts / "source.json")
    print(f"{paths.data_folder} was {old_folder}: its results are renamed", file=sys.stderr)
    with ExitStack() as locks:  # a run that still works in there would lose what it writes
        for lock in artifacts.rglob(".lock"):
            locks.enter_context(runs.lock_folder(lock.parent))
        _rename_boxes(paths.editable_boxes_csv.parent, artifacts.name, paths.dataset_name)
        artifacts.rename(paths.artifacts_folder)


def _find_renamed_artifacts(paths: Paths) -> Path | None:
    """The results of a data folder that is gone and whose DICOM files are now in this one; None without such."""
    orphaned_folders = [
        source_file.parent
        for source_file in paths.artifacts_folder.parent.glob("*/source.json")
        if not _read_source_folder(source_file).is_dir()
    ]
    digest = kaggle.find_layout(paths.data_folder).files_digest if orphaned_folders else None
    for artifacts in orphaned_folders:
        records = [read_json(file) or {} for file in artifacts.glob("prepared-*/run.json")]
        if digest in [record.get("inputs", {}).get("dicoms") for record in records]:
            return artifacts
    return None


def _read_source_folder(source_file: Path) -> Path:
    """The data folder that a dataset's results were made from."""
    return Path((read_json(source_file) or {}).get("data") or source_file.parent)


def _rename_boxes(folder: Path, old_dataset: str, new_dataset: str) -> None:
    """Rename the table of boxes to edit, its picture and its hidden copies; never over a file that is there."""
    names = [f"{old_dataset}.csv", f"{old_dataset}.jpg", f".{old_dataset}.written.csv", f".{old_dataset}.writing.csv"]
    for name in names:
        new_path = folder / name.replace(old_dataset, new_dataset, 1)
        if (folder / name).is_file() and not new_path.exists():
            (folder / name).rename(new_path)


def claim_artifacts(artifacts: Path, data: Path) -> None:
    """Reserve artifacts/<dataset>/ for one data folder; UsageError where it holds results of another of this name."""
    source_file = artifacts / "source.json"
    source_record, home = read_json(source_file) or {}, str(home_folder())
    other_data = source_record.get("data")
    is_copy = source_record.get("home", home) != home  # of a project that was copied with its results
    if other_data and Path(other_data) != data and Path(other_data).is_dir() and not is_copy:
        raise UsageError(
            f"{artifacts} holds the results of {other_data}, a folder of the same name as {data}; "
            f"rename one of the two, or set CXR_HOME=<folder> to keep the results elsewhere"
        )
    write_json(source_file, {"data": str(data), "home": home})


if __name__ == "__main__":
    run_main(main)
