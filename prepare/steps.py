"""The two steps of prepare: memory-mapped pixels and masks with their manifest, and a run's folds."""

import argparse
import os
import re
import time
from functools import partial
from pathlib import Path

from pydantic import Field

from cxr import runs
from cxr.config import StrictModel, validate_settings
from cxr.datasets import kaggle
from cxr.paths import Paths
from cxr.source_code import reached_modules

PIXEL_FILES = ("pixels.npy", "masks.npy", "manifest.parquet", "index.parquet", "rejected.csv", "sample.json")
FOLDS_CODE = ("prepare.steps",)
PIXELS_CODE = (
    "prepare.steps",
    (),
    ("prepare.folds", "cxr.datasets.near_duplicates"),
)  # but not what folds alone are made by
OUTPUT_FILES = (*PIXEL_FILES, "folds.csv")
LEFTOVER = re.compile(r"\.(pixels|masks|manifest|index|rejected|run|folds|sample)\.[0-9a-f]{8}\.\w+")


class PrepareConfig(StrictModel):
    """size: of the square canvas, pixels; folds, subfolds: how many; val_share: of the patients; seed: of the draw."""

    size: int = Field(ge=8, multiple_of=8)
    folds: int = Field(ge=2)
    subfolds: int = Field(ge=1)
    val_share: float = Field(default=0.1, gt=0, le=0.25)
    seed: int = 1


def prepare_data(paths: Paths, settings: PrepareConfig, workers: int | None = None) -> None:
    """Bring `paths.prepared_folder` and the run's folds up to date with the data folder.

    Raises DataError for a bad mask row, an image in both splits, no usable image, or too few for the folds.
    """
    layout = kaggle.find_layout(paths.data_folder)
    identity_of_pixels, folds_path = identify_pixels(layout, paths, settings), paths.folds_csv
    is_stale = not runs.is_up_to_date(paths.prepared_folder, identity_of_pixels)
    if is_stale:
        outputs = [paths.prepared_folder / name for name in PIXEL_FILES]
        with runs.record_run(paths.prepared_folder, identity_of_pixels, outputs=outputs) as metrics:
            clear_outputs(paths.prepared_folder)
            _prepare_images(layout, paths.prepared_folder, settings.size, workers, metrics)
    identity_of_folds = identify_folds(paths, settings)
    if not runs.is_up_to_date(folds_path.parent, identity_of_folds):
        with runs.record_run(folds_path.parent, identity_of_folds, settings.seed, outputs=[folds_path]):
            clear_outputs(folds_path.parent)
            _assign_folds(paths.prepared_folder, folds_path, settings)
    elif not is_stale:
        print("prepare: up to date")


def identify_pixels(layout: kaggle.Layout, paths: Paths, settings: PrepareConfig) -> runs.Identity:
    """What pixels, masks and manifest are made from; the code that assigns folds is not part of it."""
    inputs = {"dicoms": layout.files_digest} | runs.digest_inputs(layout.table_paths, paths.prepared_folder)
    return runs.Identity(settings.model_dump(include={"size"}), inputs, reached_modules(*PIXELS_CODE))


def identify_folds(paths: Paths, settings: PrepareConfig) -> runs.Identity:
    """What the folds are made from: the prepared data as it is, by whatever it was made."""
    files = [paths.prepared_folder / name for name in ("manifest.parquet", "index.parquet", "pixels.npy")]
    inputs = runs.digest_inputs(files, paths.folds_csv.parent)
    return runs.Identity(settings.model_dump(exclude={"size"}), inputs, reached_modules(*FOLDS_CODE))


def clear_outputs(folder: Path) -> None:
    """Remove what an earlier run wrote, finished or killed, so that old and new never stand side by side."""
    for path in folder.iterdir():
        if path.is_file() and (path.name in OUTPUT_FILES or LEFTOVER.fullmatch(path.name)):
            path.unlink()


def _prepare_images(layout: kaggle.Layout, folder: Path, size: int, workers: int | None, metrics: dict) -> None:
    from prepare import build_dataset  # NumPy, pandas and the decoders: not before there is something to do

    start = time.perf_counter()
    plan = build_dataset.plan_dataset(layout)
    for warning in plan.warnings:
        print(f"prepare: {warning}")
    counts = build_dataset.write_dataset(plan, folder, size, workers)
    metrics.update(counts | {"images_per_second": round(counts["images"] / (time.perf_counter() - start), 1)})
    print("prepare: " + ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in metrics.items()))


def _assign_folds(prepared: Path, path: Path, settings: PrepareConfig) -> None:
    from cxr import tables
    from prepare import build_dataset, folds

    manifest = tables.read_table(prepared / "manifest.parquet", tables.MANIFEST, "prepare")
    unknown_count = int((manifest["patient"].isna() & manifest["label"].notna()).sum())
    if unknown_count:
        print(f"prepare: patients unknown: grouped by near-duplicates alone ({unknown_count} images)")
    read_canvases = partial(build_dataset.iterate_canvases, prepared)
    fold_settings = settings.folds, settings.subfolds, settings.seed
    tables.write_table(
        folds.assign_folds(manifest, *fold_settings, read_canvases, val_share=settings.val_share), path, tables.FOLDS
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m prepare", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder in the Kaggle layout")
    parser.add_argument("--size", type=int, required=True, help="side of the square canvas, in pixels")
    parser.add_argument("--folds", type=int, required=True)
    parser.add_argument("--subfolds", type=int, required=True)
    parser.add_argument("--val-share", type=float, default=0.1, help="of the patients to validate on (0.1)")
    parser.add_argument("--seed", type=int, default=1)
    run_name = Path(os.environ.get("RECIPE") or "prepare").stem
    parser.add_argument(
        "--run", default=run_name, help=f"whose folds these are: artifacts/<dataset>/RUN/folds/ ({run_name})"
    )
    parser.add_argument("--workers", type=int, help="processes (default: one for each processor)")
    arguments = vars(parser.parse_args())
    data, run_name, workers = arguments.pop("data"), arguments.pop("run"), arguments.pop("workers")
    settings = validate_settings(arguments, PrepareConfig, "prepare")
    prepare_data(Paths(data, run_name, settings.size), settings, workers)
