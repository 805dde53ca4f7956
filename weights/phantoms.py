"""Render the phantoms that the start weights train on straight into a prepared folder: no DICOM in between.

python -m weights.phantoms --count 10000 --seed 2026   (artifacts/start/prepared-384; half show a pneumothorax)
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from cxr import tables
from cxr.config import StrictModel
from cxr.errors import run_main
from cxr.files import reserve_disk_space, write_atomically
from cxr.imaging import rle
from cxr.paths import home_folder
from cxr.recipe import find_recipe, read_recipe
from cxr.step import Step, run_step
from phantom.render import render_phantom


class Rendering(StrictModel):
    """All that the set of phantoms depends on, apart from the code that renders them."""

    count: int
    seed: int
    size: int
    folds: int
    subfolds: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="weights.phantoms")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument(
        "--seed", type=int, default=2026, help="must differ from the demonstration's (phantom/config.yaml)"
    )
    arguments = parser.parse_args()
    recipe = read_recipe(find_recipe("start"))
    from_recipe = {"size": recipe.prepared_size, "folds": recipe.folds, "subfolds": recipe.subfolds}
    settings = Rendering(count=arguments.count, seed=arguments.seed, **from_recipe)
    paths = recipe.build_paths(home_folder() / "start")
    step = Step("start phantoms", "phantom", (), paths.prepared_folder, settings)
    run_step(step, lambda _identity, _metrics: write_start_phantoms(paths.prepared_folder, paths.folds_csv, settings))


def write_start_phantoms(folder: Path, folds_csv: Path, settings: Rendering) -> None:
    """Write pixels.npy, masks.npy, manifest, index and folds of `settings.count` phantoms, each its own patient."""
    masks = range(1, settings.count, 2)  # every other one shows a pneumothorax
    shapes = {
        "pixels": (settings.count, settings.size, settings.size),
        "masks": (len(masks), settings.size, settings.size // 8),
    }
    with write_atomically(folder / "pixels.npy") as pixels, write_atomically(folder / "masks.npy") as packed_masks:
        for path, shape in zip((pixels, packed_masks), shapes.values(), strict=True):
            np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
            reserve_disk_space(path)
        jobs = [(row, settings, pixels, packed_masks) for row in range(settings.count)]
        with ProcessPoolExecutor(os.cpu_count(), initializer=cv2.setNumThreads, initargs=(0,)) as pool:
            phantom_rows = pool.map(_render_phantom, jobs, chunksize=16)
            rows = list(tqdm(phantom_rows, total=settings.count, unit="phantom", mininterval=5))
    _write_tables(folder, folds_csv, settings, pd.DataFrame(rows))


def _render_phantom(job: tuple[int, Rendering, Path, Path]) -> dict:
    row, settings, pixels, packed_masks = job
    phantom = render_phantom(settings.seed, row, 0, settings.size, positive=row % 2 == 1)
    np.lib.format.open_memmap(pixels, mode="r+")[row] = phantom.image
    if row % 2 == 1:
        np.lib.format.open_memmap(packed_masks, mode="r+")[row // 2] = np.packbits(phantom.mask, axis=-1)
    return {
        "image_id": f"start.{row}", "split": "train", "path": "", "patient": str(row), "age": phantom.age,
        "sex": phantom.sex, "view": phantom.view_position, "height": settings.size, "width": settings.size,
        "label": float(phantom.mask.any()), "mask_area": int(phantom.mask.sum()), "rle": rle.encode_mask(phantom.mask),
    }  # fmt: skip


def _write_tables(folder: Path, folds_csv: Path, settings: Rendering, manifest: pd.DataFrame) -> None:
    ids, rows = manifest["image_id"], np.arange(settings.count)
    tables.write_table(manifest, folder / "manifest.parquet", tables.MANIFEST)
    index = {"row": rows, "scale": 1.0, "dx": 0, "dy": 0, "mask_row": np.where(rows % 2 == 1, rows // 2, -1)}
    tables.write_table(pd.DataFrame({"image_id": ids} | index), folder / "index.parquet", tables.INDEX)
    folds, subfolds = rows // 2 % settings.folds, rows // 2 // settings.folds % settings.subfolds
    fold_columns = {"fold": folds, "subfold": subfolds, "val": False}
    tables.write_table(pd.DataFrame({"image_id": ids} | fold_columns), folds_csv, tables.FOLDS)


if __name__ == "__main__":
    run_main(main)
