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
from cxr.paths import ROOT, home_folder
from cxr.recipe import load_recipe_and_paths

TIME_KEYS = ("made", "seconds", "peak_bytes", "images_per_second", "loader_wait", "outputs", "inputs")
"""Of a record: how long it took. Of what it wrote and read, the files themselves are compared."""
TIME_TEXT = re.compile(r"\d{4}-\d\d-\d\d[ T][\d:+]+|\d+:\d\d(:\d\d)?|\d+\.\d (GB|s|seconds)")
IGNORED_FILES = (".lock", "last.json", "source.json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.lost_artefacts")
    parser.add_argument("--only", default="", help="files with this in their path")
    parser.add_argument("--together", action="store_true", help="one file of each folder at a time: quicker")
    arguments = parser.parse_args()
    _, paths = load_recipe_and_paths()
    folders = (paths.prepared_folder, paths.run_folder, paths.artifacts_folder, paths.editable_boxes_csv.parent)
    files = sorted({path for folder in folders for path in find_artefacts(folder, paths.dataset_name)})
    file_groups = group_files([path for path in files if arguments.only in str(path)], arguments.together)
    if repeat_last_run():
        raise UsageError("the run does not come to its end undamaged")
    failure_count = sum(count_losses(group, damage) for group in file_groups for damage in (halve_file, remove_file))
    print(f"{sum(map(len, file_groups))} files, {failure_count} failures")
    if failure_count:
        raise SystemExit(1)


def group_files(files: list[Path], together: bool) -> list[list[Path]]:
    """The files to damage at once: one alone, or one of each folder."""
    if not together:
        return [[path] for path in files]
    folders: dict[Path, list[Path]] = {}
    for path in files:
        folders.setdefault(path.parent, []).append(path)
    return [[path for path in group if path] for group in zip_longest(*folders.values())]


def find_artefacts(folder: Path, dataset: str) -> list[Path]:
    """What a run left in a folder, without notes for the next run and files of other datasets."""
    candidates = folder.glob(f"{dataset}.*") if folder.name == "boundingbox_csv" else folder.rglob("*")
    return [
        path
        for path in candidates
        if path.is_file() and path.name not in IGNORED_FILES and ".digests" not in path.parts
    ]


def halve_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_file(path: Path) -> None:
    path.unlink()


def count_losses(files: list[Path], damage: Callable[[Path], None]) -> int:
    """How many damaged files are not as before after the same command; prints a line for each, and puts it back."""
    bytes_before, contents_before = (
        [path.read_bytes() for path in files],
        [read_comparable_content(path) for path in files],
    )
    for path in files:
        damage(path)
    exit_code, failure_count = repeat_last_run(), 0
    for path, original_bytes, expected_content in zip(files, bytes_before, contents_before, strict=True):
        is_same = path.is_file() and read_comparable_content(path) == expected_content
        verdict = "same" if is_same else f"NOT THE SAME, exit code {exit_code}"
        print(f"{damage.__name__:11} {path.relative_to(home_folder())}: {verdict}", flush=True)
        if not is_same:
            failure_count += 1
            path.write_bytes(original_bytes)
    if failure_count:
        repeat_last_run()
    return failure_count


def read_comparable_content(path: Path) -> object:
    """What must be the same."""
    if path.suffix == ".json" and (record := read_json(path)) is not None:
        hashes_records = any(name.endswith("run.json") for name in record.get("inputs", {}))  # so times are in its hash
        return drop_times({key: value for key, value in record.items() if key != "fingerprint" or not hashes_records})
    return TIME_TEXT.sub("", path.read_text(encoding="utf-8")) if path.suffix == ".html" else path.read_bytes()


def drop_times(values: object) -> object:
    if isinstance(values, dict):
        return {key: drop_times(value) for key, value in values.items() if key not in TIME_KEYS}
    return values


def repeat_last_run() -> int:
    """The last run's command again; its exit code."""
    last_run = read_json(home_folder() / "artifacts" / "last.json")
    variables = {"DATA": last_run["data"], "VIRTUAL_ENV": sys.prefix} | (
        {"WEIGHTS": last_run["weights"]} if last_run["weights"] else {}
    )
    process = subprocess.run(
        ["bash", str(ROOT / "run_all.sh"), last_run["recipe"], *(["--smoke"] if last_run["smoke"] else [])], cwd=ROOT,
        env=os.environ | variables, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if process.returncode:
        print(process.stderr.strip()[-1000:], file=sys.stderr)
    return process.returncode


if __name__ == "__main__":
    run_main(main)
