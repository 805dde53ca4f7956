"""Does the same command repair every file of the last run that was cut in half or removed, with the same bytes?

[CXR_HOME=FOLDER] python -m bench.lost_artefacts [--only PART] [--together]

To be called after a run of run_all.sh, whose recipe, data and home are used. Each file is damaged in turn and the
command repeated. Times, memory and speed in JSON files, and times in pages, are not compared. Exit code 1 where a file
was not made again, or differs.
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
"""Keys of a record that are not compared: its times, and its lists of files, which are compared themselves."""
TIME_TEXT = re.compile(r"\d{4}-\d\d-\d\d[ T][\d:+]+|\d+:\d\d(:\d\d)?|\d+\.\d (GB|s|seconds)")
IGNORED_FILES = (".lock", "last.json", "source.json")


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.lost_artefacts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="files with this in their path")
    parser.add_argument("--together", action="store_true", help="damage a file of each folder at a time: quicker")
    arguments = parser.parse_args()
    _, paths = load_recipe_and_paths()
    folders = (paths.prepared_folder, paths.run_folder, paths.artifacts_folder, paths.editable_boxes_csv.parent)
    files = sorted({path for folder in folders for path in find_artefacts(folder, paths.dataset_name)})
    file_groups = group_files([path for path in files if arguments.only in str(path)], arguments.together)
    if repeat_last_run():
        raise UsageError("the run fails even without damage")
    failure_count = sum(count_losses(group, damage) for group in file_groups for damage in (halve_file, remove_file))
    print(f"{sum(map(len, file_groups))} files, {failure_count} failures")
    if failure_count:
        raise SystemExit(1)


def group_files(files: list[Path], together: bool) -> list[list[Path]]:
    """Groups of files to damage at once: each alone, or one of each folder together."""
    if not together:
        return [[path] for path in files]
    folders: dict[Path, list[Path]] = {}
    for path in files:
        folders.setdefault(path.parent, []).append(path)
    return [[path for path in group if path] for group in zip_longest(*folders.values())]


def find_artefacts(folder: Path, dataset: str) -> list[Path]:
    """The files of a run in a folder, without those for the next run and those of other data sets."""
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
    """How many damaged files differ after the command was repeated; prints a line for each, and restores these."""
    bytes_before = [path.read_bytes() for path in files]
    contents_before = [read_comparable_content(path) for path in files]
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
    """The part of a file that must be the same after a repair."""
    if path.suffix == ".json" and (record := read_json(path)) is not None:
        # Where a run.json is an input, times are part of the fingerprint.
        hashes_records = any(name.endswith("run.json") for name in record.get("inputs", {}))
        return drop_times({key: value for key, value in record.items() if key != "fingerprint" or not hashes_records})
    return TIME_TEXT.sub("", path.read_text(encoding="utf-8")) if path.suffix == ".html" else path.read_bytes()


def drop_times(values: object) -> object:
    if isinstance(values, dict):
        return {key: drop_times(value) for key, value in values.items() if key not in TIME_KEYS}
    return values


def repeat_last_run() -> int:
    """Repeat the last run's command; its exit code."""
    last_run = read_json(home_folder() / "artifacts" / "last.json")
    variables = {"DATA": last_run["data"], "VIRTUAL_ENV": sys.prefix}
    if last_run["weights"]:
        variables["WEIGHTS"] = last_run["weights"]
    process = subprocess.run(
        ["bash", str(ROOT / "run_all.sh"), last_run["recipe"], *(["--smoke"] if last_run["smoke"] else [])], cwd=ROOT,
        env=os.environ | variables, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if process.returncode:
        print(process.stderr.strip()[-1000:], file=sys.stderr)
    return process.returncode


if __name__ == "__main__":
    run_main(main)
