"""Train one segmenter on all folds but one, and write its full-frame maps of that fold.

python -m stage2_segment.train --member unet_effb4_crop --fold 0 [--training.epochs 5 ...]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import boxes, tables
from cxr.config import from_command_line
from cxr.errors import run_main
from cxr.files import replacing
from cxr.paths import Paths
from cxr.plan import Unit, run
from cxr.prepared import Prepared
from cxr.recipe import Recipe, chosen
from stage2_segment import config


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage2_segment.train", description="other options override the member's")
    parser.add_argument("--member", help="a file of configs/, by name; all of the recipe's by default")
    parser.add_argument("--fold", type=int, help="the fold to hold out; all that the recipe trains by default")
    asked, overrides = parser.parse_known_args()
    recipe, paths = chosen()
    for name in [asked.member] if asked.member else recipe.stage2:
        member = config.with_weights(recipe, config.read(name))
        member = from_command_line(member, overrides, f"{parser.prog} --member {name}")
        for fold in recipe.trained if asked.fold is None else [asked.fold]:
            unit = config.unit(recipe, paths, name, fold, member)
            run(unit, lambda identity, metrics, unit=unit: train(unit, recipe, paths, identity, metrics))


def train(unit: Unit, recipe: Recipe, paths: Paths, identity: str, metrics: dict) -> None:
    """Fit the unit's model, from its checkpoint where there is one, and write its held-out maps."""
    from cxr.torchkit.device import device, seed
    from cxr.torchkit.loop import fit
    from stage2_segment.infer import watch
    from stage2_segment.losses import SegmenterLoss

    member, fold = unit.config.member, unit.config.fold
    prepared = Prepared(paths.prepared, recipe.folds)
    train_ids, watch_ids, held_out = prepared.split_fold(fold)
    data = open_data(prepared, paths, member, train_ids, recipe.seed)
    seed(recipe.seed, fold)
    model, on = _start(member, data), device()
    metrics |= fit(
        model, data, SegmenterLoss(member), member.training, unit.folder, identity, on,
        watch(data, watch_ids, on), label=unit.name,
    )  # fmt: skip
    write_maps(unit.folder, [model], data, held_out, on)
    (unit.folder / "checkpoint.pt").unlink(missing_ok=True)


def open_data(prepared: Prepared, paths: Paths, member: config.SegmenterConfig, image_ids: list[str], seed: int):
    """The unit's examples; the boxes are read only where the member crops to them."""
    from stage2_segment.data import SegmenterData

    found = boxes.read(paths.boxes) if member.view.crop == "box" else {}
    return SegmenterData(prepared, found, member, image_ids, seed)


def _start(member: config.SegmenterConfig, data):
    from cxr.torchkit.loading import in_order
    from cxr.torchkit.weights import recalibrated
    from stage2_segment.models import build

    model = build(member)
    if member.recalibrate:
        some = data.image_ids[: 16 * member.training.batch]
        recalibrated(model, (batch["image"] for batch in in_order(some, data.plain, member.training.batch)))
    return model


def write_maps(folder: Path, models: list, data, image_ids: list[str], on) -> None:
    """Write maps.npy and its index, one image at a time, so that memory does not grow with the data."""
    from stage2_segment.infer import maps

    size = data.member.view.size
    with replacing(folder / "maps.npy") as temporary:
        shape = (len(image_ids), size, size)
        rows = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        for row, found in enumerate(maps(models, data, image_ids, on)):
            rows[row] = found
        rows.flush()
    index = pd.DataFrame({"image_id": image_ids, "row": range(len(image_ids))})
    tables.write(index, folder / "index.parquet", tables.MAP_INDEX)


if __name__ == "__main__":
    run_main(main)
