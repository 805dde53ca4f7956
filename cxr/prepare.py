"""From a data folder in the Kaggle layout to the manifest, memory-mapped pixels and masks, and folds.

    python -m cxr.prepare --data DIR --size 512 --folds 5 --subfolds 4 [--run NAME]
"""

import argparse
import os
import re
import time
from functools import partial
from pathlib import Path

from pydantic import Field

from cxr import kaggle, runs
from cxr.config import Strict, validate
from cxr.errors import run_main
from cxr.paths import Paths
from cxr.source_code import reached_modules

PIXELS = ("pixels.npy", "masks.npy", "manifest.parquet", "index.parquet", "rejected.csv", "sample.json")
FOLDS_CODE = ("cxr.prepare",)
PIXELS_CODE = ("cxr.prepare", (), ("cxr.folds", "cxr.duplicates"))  # but not what folds alone are made by
MADE = (*PIXELS, "folds.csv")
LEFTOVER = re.compile(r"\.(pixels|masks|manifest|index|rejected|run|folds|sample)\.[0-9a-f]{8}\.\w+")


class PrepareConfig(Strict):
    """size: of the square canvas, pixels; folds, subfolds: how many; val_share: of the patients; seed: of the draw."""

    size: int = Field(ge=8, multiple_of=8)
    folds: int = Field(ge=2)
    subfolds: int = Field(ge=1)
    val_share: float = Field(default=0.1, gt=0, le=0.25)
    seed: int = 1


def prepare(paths: Paths, config: PrepareConfig, workers: int | None = None) -> None:
    """Bring `paths.prepared` and the run's folds up to date with the data folder.

    Raises DataError for a bad mask row, an image in both splits, no usable image, or too few for the folds.
    """
    layout = kaggle.find(paths.data)
    pixels, path = pixels_identity(layout, paths, config), paths.folds
    stale = not runs.is_current(paths.prepared, pixels)
    if stale:
        outputs = [paths.prepared / name for name in PIXELS]
        with runs.recorded(paths.prepared, pixels, outputs=outputs) as metrics:
            clear(paths.prepared)
            _prepare_images(layout, paths.prepared, config.size, workers, metrics)
    folds = folds_identity(paths, config)
    if not runs.is_current(path.parent, folds):
        with runs.recorded(path.parent, folds, config.seed, outputs=[path]):
            clear(path.parent)
            _assign_folds(paths.prepared, path, config)
    elif not stale:
        print("prepare: up to date")


def pixels_identity(layout: kaggle.Layout, paths: Paths, config: PrepareConfig) -> runs.Identity:
    """What pixels, masks and manifest are made from; another way to assign folds does not make them anew."""
    inputs = {"dicoms": layout.digest} | runs.input_digests(layout.tables, paths.prepared)
    return runs.Identity(config.model_dump(include={"size"}), inputs, reached_modules(*PIXELS_CODE))


def folds_identity(paths: Paths, config: PrepareConfig) -> runs.Identity:
    """What the folds are made from: the prepared data as it is, by whatever it was made."""
    files = [paths.prepared / name for name in ("manifest.parquet", "index.parquet", "pixels.npy")]
    inputs = runs.input_digests(files, paths.folds.parent)
    return runs.Identity(config.model_dump(exclude={"size"}), inputs, reached_modules(*FOLDS_CODE))


def clear(folder: Path) -> None:
    """Remove what an earlier run wrote, finished or killed, so that old and new never stand side by side."""
    for path in folder.iterdir():
        if path.is_file() and (path.name in MADE or LEFTOVER.fullmatch(path.name)):
            path.unlink()


def _prepare_images(layout: kaggle.Layout, folder: Path, size: int, workers: int | None, metrics: dict) -> None:
    from cxr import intake  # NumPy, pandas and the decoders: not before there is something to do

    start = time.perf_counter()
    plan = intake.plan(layout)
    for warning in plan.warnings:
        print(f"prepare: {warning}")
    counts = intake.run(plan, folder, size, workers)
    metrics.update(counts | {"images_per_second": round(counts["images"] / (time.perf_counter() - start), 1)})
    print("prepare: " + ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in metrics.items()))


def _assign_folds(prepared: Path, path: Path, config: PrepareConfig) -> None:
    from cxr import folds, intake, tables

    manifest = tables.read(prepared / "manifest.parquet", tables.MANIFEST, "prepare")
    unknown = int((manifest["patient"].isna() & manifest["label"].notna()).sum())
    if unknown:
        print(f"prepare: patients unknown: grouped by near-duplicates alone ({unknown} images)")
    canvases = partial(intake.canvases, prepared)
    counts = config.folds, config.subfolds, config.seed
    tables.write(folds.assign(manifest, *counts, canvases, val_share=config.val_share), path, tables.FOLDS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cxr.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder in the Kaggle layout")
    parser.add_argument("--size", type=int, required=True, help="side of the square canvas, in pixels")
    parser.add_argument("--folds", type=int, required=True)
    parser.add_argument("--subfolds", type=int, required=True)
    parser.add_argument("--val-share", type=float, default=0.1, help="of the patients to validate on (0.1)")
    parser.add_argument("--seed", type=int, default=1)
    run = Path(os.environ.get("RECIPE") or "prepare").stem
    parser.add_argument("--run", default=run, help=f"whose folds these are: artifacts/<dataset>/RUN/folds/ ({run})")
    parser.add_argument("--workers", type=int, help="processes (default: one for each processor)")
    given = vars(parser.parse_args())
    data, run, workers = given.pop("data"), given.pop("run"), given.pop("workers")
    config = validate(given, PrepareConfig, "prepare")
    prepare(Paths(data, run, config.size), config, workers)


if __name__ == "__main__":
    run_main(main)
