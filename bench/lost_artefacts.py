"""Every file of the last run is cut, then removed, in turn: does the same command make it again, with the same bytes?

[CXR_HOME=FOLDER] python -m bench.lost_artefacts [--only PART] [--together]

After a run of run_all.sh: takes up its recipe, its data and its home. Of JSON what tells times, memory and speed is
left out; of pages what tells times. Exit code 1 where a file was not made again, or otherwise.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

from cxr.errors import UsageError, run_main
from cxr.files import read_json
from cxr.paths import ROOT, home
from cxr.recipe import chosen

TIMES = ("made", "seconds", "peak_bytes", "images_per_second", "loader_wait", "outputs", "inputs")
"""Of a record: how long it took. Of what it wrote and read, the files themselves are compared."""
MADE = re.compile(r"\d{4}-\d\d-\d\d[ T][\d:+]+|\d+:\d\d(:\d\d)?|\d+\.\d (GB|s|seconds)")
NOTES = (".lock", "last.json", "source.json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.lost_artefacts")
    parser.add_argument("--only", default="", help="files with this in their path")
    parser.add_argument("--together", action="store_true", help="one file of each folder at a time: quicker")
    asked = parser.parse_args()
    _, paths = chosen()
    folders = (paths.prepared, paths.run, paths.artifacts, paths.editable_boxes.parent)
    files = sorted({path for folder in folders for path in artefacts(folder, paths.dataset)})
    rounds = in_turn([path for path in files if asked.only in str(path)], asked.together)
    if run():
        raise UsageError("the run does not come to its end undamaged")
    failed = sum(lost_again(some, damage) for some in rounds for damage in (cut, remove))
    print(f"{sum(map(len, rounds))} files, {failed} failures")
    if failed:
        raise SystemExit(1)


def in_turn(files: list[Path], together: bool) -> list[list[Path]]:
    """The files to damage at once: one alone, or one of each folder."""
    if not together:
        return [[path] for path in files]
    folders: dict[Path, list[Path]] = {}
    for path in files:
        folders.setdefault(path.parent, []).append(path)
    return [[path for path in some if path] for some in zip_longest(*folders.values())]


def artefacts(folder: Path, dataset: str) -> list[Path]:
    """What a run left in a folder, without notes for the next run and files of other datasets."""
    found = folder.glob(f"{dataset}.*") if folder.name == "boundingbox_csv" else folder.rglob("*")
    return [path for path in found if path.is_file() and path.name not in NOTES and ".digests" not in path.parts]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(path: Path) -> None:
    path.unlink()


def lost_again(files: list[Path], damage: Callable[[Path], None]) -> int:
    """How many damaged files are not as before after the same command; prints a line for each, and puts it back."""
    bytes_before, before = [path.read_bytes() for path in files], [content(path) for path in files]
    for path in files:
        damage(path)
    code, failed = run(), 0
    for path, whole, known in zip(files, bytes_before, before, strict=True):
        same = path.is_file() and content(path) == known
        words = "same" if same else f"NOT THE SAME, exit code {code}"
        print(f"{damage.__name__:7} {path.relative_to(home())}: {words}", flush=True)
        if not same:
            failed += 1
            path.write_bytes(whole)
    if failed:
        run()
    return failed


def content(path: Path) -> object:
    """What must be the same."""
    if path.suffix == ".json" and (record := read_json(path)) is not None:
        of_records = any(name.endswith("run.json") for name in record.get("inputs", {}))  # so times are in its hash
        return without_times({key: value for key, value in record.items() if key != "fingerprint" or not of_records})
    return MADE.sub("", path.read_text(encoding="utf-8")) if path.suffix == ".html" else path.read_bytes()


def without_times(values: object) -> object:
    if isinstance(values, dict):
        return {key: without_times(value) for key, value in values.items() if key not in TIMES}
    return values


def run() -> int:
    """The last run's command again; its exit code."""
    last = read_json(home() / "artifacts" / "last.json")
    own = {"DATA": last["data"], "VIRTUAL_ENV": sys.prefix} | ({"WEIGHTS": last["weights"]} if last["weights"] else {})
    done = subprocess.run(
        ["bash", str(ROOT / "run_all.sh"), last["recipe"], *(["--smoke"] if last["smoke"] else [])], cwd=ROOT,
        env=os.environ | own, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        print(done.stderr.strip()[-1000:], file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    run_main(main)
