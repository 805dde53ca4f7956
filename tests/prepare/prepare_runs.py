"""What the tests of prepare share: how it is called, and what it left."""

import re
import subprocess
import sys
from pathlib import Path

from cxr.paths import ROOT, Paths
from prepare.steps import PrepareConfig, prepare_data

SIZE = 32


def run(data: Path, size: int = SIZE, folds: int = 2, subfolds: int = 2, seed: int = 1, recipe: str = "recipe") -> Path:
    paths = Paths(data, recipe, size)
    prepare_data(paths, PrepareConfig(size=size, folds=folds, subfolds=subfolds, seed=seed), workers=2)
    return paths.prepared_folder


def folds_of(folder: Path, recipe: str = "recipe") -> Path:
    """The folds of a recipe's run, beside the prepared folder."""
    return folder.parent / recipe / "folds" / "folds.csv"


def command(data: Path, *more: str) -> list[str]:
    options = f"--size {SIZE} --folds 2 --subfolds 2 --workers 2 --run recipe".split()
    return [sys.executable, "-m", "prepare", "--data", str(data), *options, *more]


def call(data: Path, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(data, *more), capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("run.json", ".lock")
    }


def edit(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.MULTILINE)
    assert count
    path.write_text(text)
