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

from cxr import rle, tables
from cxr.config import Strict
from cxr.errors import run_main
from cxr.files import replacing, reserve
from cxr.paths import home
from cxr.plan import Unit, run
from cxr.recipe import find, read
from phantom.render import render


class Rendering(Strict):
    """All that the set depends on beside the phantoms' own source."""

    count: int
    seed: int
    size: int
    folds: int
    subfolds: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="weights.phantoms")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=2026, help="another than the demonstration's (phantom/config.yaml)")
    asked = parser.parse_args()
    recipe = read(find("start"))
    config = Rendering(
        count=asked.count, seed=asked.seed, size=recipe.prepared_size, folds=recipe.folds, subfolds=recipe.subfolds
    )
    paths = recipe.paths(home() / "start")
    unit = Unit("start phantoms", "phantom", (), paths.prepared, config)
    run(unit, lambda _identity, _metrics: make(paths.prepared, paths.folds, config))


def make(folder: Path, folds_csv: Path, config: Rendering) -> None:
    """Write pixels.npy, masks.npy, the manifest, the index and the folds of `count` phantoms, one a patient."""
    masks = range(1, config.count, 2)  # every other one shows a pneumothorax
    shapes = {"pixels": (config.count, config.size, config.size), "masks": (len(masks), config.size, config.size // 8)}
    with replacing(folder / "pixels.npy") as pixels, replacing(folder / "masks.npy") as packed:
        for path, shape in zip((pixels, packed), shapes.values(), strict=True):
            np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
            reserve(path)
        jobs = [(row, config, pixels, packed) for row in range(config.count)]
        with ProcessPoolExecutor(os.cpu_count(), initializer=cv2.setNumThreads, initargs=(0,)) as pool:
            rows = list(tqdm(pool.map(_draw, jobs, chunksize=16), total=config.count, unit="phantom", mininterval=5))
    _write_tables(folder, folds_csv, config, pd.DataFrame(rows))


def _draw(job: tuple[int, Rendering, Path, Path]) -> dict:
    row, config, pixels, packed = job
    found = render(config.seed, row, 0, config.size, positive=row % 2 == 1)
    np.lib.format.open_memmap(pixels, mode="r+")[row] = found.image
    if row % 2 == 1:
        np.lib.format.open_memmap(packed, mode="r+")[row // 2] = np.packbits(found.mask, axis=-1)
    return {
        "image_id": f"start.{row}", "split": "train", "path": "", "patient": str(row), "age": found.age,
        "sex": found.sex, "view": found.view, "height": config.size, "width": config.size,
        "label": float(found.mask.any()), "mask_area": int(found.mask.sum()), "rle": rle.encode(found.mask),
    }  # fmt: skip


def _write_tables(folder: Path, folds_csv: Path, config: Rendering, manifest: pd.DataFrame) -> None:
    ids, rows = manifest["image_id"], np.arange(config.count)
    tables.write(manifest, folder / "manifest.parquet", tables.MANIFEST)
    index = {"row": rows, "scale": 1.0, "dx": 0, "dy": 0, "mask_row": np.where(rows % 2 == 1, rows // 2, -1)}
    tables.write(pd.DataFrame({"image_id": ids} | index), folder / "index.parquet", tables.INDEX)
    split = {"fold": rows // 2 % config.folds, "subfold": rows // 2 // config.folds % config.subfolds, "val": False}
    tables.write(pd.DataFrame({"image_id": ids} | split), folds_csv, tables.FOLDS)


if __name__ == "__main__":
    run_main(main)
