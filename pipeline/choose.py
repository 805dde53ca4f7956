"""Which recipe and which data a run is of; printed as shell exports for run_all.sh, explained on stderr.

[DATA=<folder>] python -m pipeline.choose [recipes/<name>.yaml] [--smoke]
"""

import difflib
import os
import shlex
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from cxr import kaggle, runs
from cxr import recipe as recipes
from cxr.errors import UsageError, run_main
from cxr.files import read_json, write_json
from cxr.paths import ROOT, Paths, as_meant, home

USAGE = """usage: [DATA=<folder>] [WEIGHTS=<folder>] [FORCE=1] bash run_all.sh [recipes/<name>.yaml] [--smoke]
  --smoke  a trial in minutes: the recipe's members at their smallest, few steps, a dozen phantom patients
  DATA     a folder in the Kaggle layout; without it data/, and phantoms where that is empty
  WEIGHTS  a folder with start weights: <network>_imagenet.safetensors, say (weights/README.md)
  FORCE=1  does again what is up to date"""
ON_PHANTOMS, ON_DATA = "phantom", "dw_hwang"  # the recipes taken when none is named


def phantoms() -> Path:
    """Where the phantoms that the project makes itself lie: those of a smoke trial are fewer."""
    return home() / "artifacts" / "generated" / ("smoke" if os.environ.get("SMOKE") == "1" else "phantom")


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
    settings = choose(arguments[0] if arguments else None)
    print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in settings.items()))


def choose(asked: str | None) -> dict[str, str]:
    """The environment of a run with the recipe `asked` for, or the one that fits the data."""
    data, why = choose_data()
    path = choose_recipe(asked or os.environ.get("RECIPE") or (ON_PHANTOMS if data == phantoms() else ON_DATA))
    recipe = recipes.read(path)
    paths = recipe.paths(data)
    take_over_renamed(paths)
    claim(paths.artifacts, data)
    recipes.claim(path, paths.run)
    print(f"{why}\nrecipe {recipe.name}: {recipe.about}", file=sys.stderr)
    settings = {"RECIPE": str(path), "DATA": str(data), "RUN_BEGAN": str(int(time.time()))}
    settings |= {name: str(as_meant(os.environ[name])) for name in ("WEIGHTS", "CXR_HOME") if os.environ.get(name)}
    settings |= {"SMOKE": "1"} if os.environ.get("SMOKE") == "1" else {}
    os.environ |= settings
    recipes.remember(path, data)
    return settings


def choose_data() -> tuple[Path, str]:
    """The data folder, and why that one."""
    if os.environ.get("DATA"):
        folder = as_meant(os.environ["DATA"])
        if not folder.is_dir() and folder != phantoms():
            raise UsageError(f"DATA={os.environ['DATA']}: there is no folder {folder}")
        return folder, f"data: {folder}"
    if holds_data(ROOT / "data") and os.environ.get("SMOKE") != "1":
        return (ROOT / "data").resolve(), "data: data/"
    why = "a smoke trial" if os.environ.get("SMOKE") == "1" else "no data in data/"
    return phantoms(), f"{why}: running on phantoms, in {phantoms()} (DATA=<folder> points to other data)"


def holds_data(folder: Path) -> bool:
    """Whether a DICOM file or a table lies anywhere in `folder`; a README alone is no data."""
    files = (name for _, _, names in os.walk(folder, followlinks=True) for name in names)
    return any(name.lower().endswith((".dcm", ".csv")) for name in files)


def choose_recipe(name: str) -> Path:
    """The file of a recipe that is named by its path, seen from here or from the project, or by its name."""
    shipped = ROOT / "recipes" / f"{Path(name).name.removesuffix('.yaml')}.yaml"
    here, in_project = as_meant(name), ROOT / name
    candidates = [here, in_project] if name.endswith(".yaml") else [shipped]
    for path in candidates:
        if path.is_file():
            return path.resolve()
    names = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
    near = difflib.get_close_matches(shipped.stem, names, n=1)
    hint = f"did you mean recipes/{near[0]}.yaml?" if near else f"there are: {', '.join(names)}"
    raise UsageError(f"recipe {name} does not exist; {hint}")


def take_over_renamed(paths: Paths) -> None:
    """Where the data folder was renamed, rename what was made from it, too: nothing is to be made anew for a name.

    The same data is a folder that is gone, whose DICOM files had the same names, sizes and times below it.
    """
    if paths.artifacts.is_dir() or not paths.data.is_dir():
        return
    gone = [note.parent for note in paths.artifacts.parent.glob("*/source.json") if not _source(note).is_dir()]
    digest = kaggle.find(paths.data).digest if gone else None
    for artifacts in gone:
        records = [read_json(file) or {} for file in artifacts.glob("prepared-*/run.json")]
        if digest in [record.get("inputs", {}).get("dicoms") for record in records]:
            print(f"{paths.data} was {_source(artifacts / 'source.json')}: its results are renamed", file=sys.stderr)
            with ExitStack() as held:  # a run that still works in there would lose what it writes
                for lock in artifacts.rglob(".lock"):
                    held.enter_context(runs.locked(lock.parent))
                _rename_boxes(paths.editable_boxes.parent, artifacts.name, paths.dataset)
                artifacts.rename(paths.artifacts)
            return


def _source(note: Path) -> Path:
    """The data folder that a dataset's results were made from."""
    return Path((read_json(note) or {}).get("data") or note.parent)


def _rename_boxes(folder: Path, old: str, new: str) -> None:
    """The table to edit, its picture, and its hidden copies; never over a file that is there."""
    for name in (f"{old}.csv", f"{old}.jpg", f".{old}.written.csv", f".{old}.writing.csv"):
        renamed = folder / name.replace(old, new, 1)
        if (folder / name).is_file() and not renamed.exists():
            (folder / name).rename(renamed)


def claim(artifacts: Path, data: Path) -> None:
    """Hold artifacts/<dataset>/ for one data folder: two of the same name would write over each other."""
    note = artifacts / "source.json"
    held = read_json(note) or {}
    other, copied = held.get("data"), held.get("home", str(home())) != str(home())
    if other and Path(other) != data and Path(other).is_dir() and not copied:
        raise UsageError(
            f"{artifacts} holds the results of {other}, a folder of the same name as {data}; "
            f"rename one of the two, or set CXR_HOME=<folder> to keep the results elsewhere"
        )
    write_json(note, {"data": str(data), "home": str(home())})


if __name__ == "__main__":
    run_main(main)
