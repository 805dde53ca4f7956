"""Write a segmenter's maps of the test images: the mean over the models of the folds.

python -m stage2_segment.predict --member unet_effb4_crop [--training.batch 4 ...]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import boxes, tables
from cxr.config import from_command_line
from cxr.course import explain_memory
from cxr.errors import UsageError, run_main
from cxr.files import replacing, reserve
from cxr.paths import Paths
from cxr.plan import Unit, run
from cxr.prepared import Prepared
from cxr.recipe import Recipe, chosen
from stage2_segment import config
from stage2_segment.check import ready


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage2_segment.predict", description="other options override the member's")
    parser.add_argument("--member", help="a file of configs/, by name; all of the recipe's by default")
    asked, overrides = parser.parse_known_args()
    recipe, paths = chosen()
    found, names = config.members(recipe, asked.member), [asked.member] if asked.member else recipe.stage2
    found |= {name: from_command_line(found[name], overrides, f"{parser.prog} --member {name}") for name in names}
    found = ready(recipe, names, found)
    for name in names:
        make(recipe, paths, name, found[name])


def make(recipe: Recipe, paths: Paths, name: str, member: config.SegmenterConfig) -> None:
    """The test maps of one member, unless they are up to date."""
    unit = config.test_unit(recipe, paths, name, member)
    run(unit, lambda _identity, _metrics: predict(unit, name, recipe, paths))


def predict(unit: Unit, name: str, recipe: Recipe, paths: Paths) -> None:
    """Average the folds' models image by image."""
    from cxr.torchkit.checkpoint import load_weights
    from cxr.torchkit.device import device
    from stage2_segment.models import Segmenter

    member = unit.config.member
    prepared = Prepared(paths.prepared, paths.folds)
    data = open_data(prepared, paths, member, [], recipe.seed)
    models = []
    for fold in recipe.trained:
        file = paths.unit(2, name, fold) / "weights.safetensors"
        if not file.is_file():
            raise UsageError(f"{file} is missing; it is made by: stage2_segment.train --member {name} --fold {fold}")
        models.append(Segmenter(member))
        models[-1].load_state_dict(load_weights(file))
    write_maps(unit.folder, models, data, prepared.ids("test"), device())


def open_data(prepared: Prepared, paths: Paths, member: config.SegmenterConfig, image_ids: list[str], seed: int):
    """The unit's examples; the boxes are read only where the member crops to them."""
    from stage2_segment.data import SegmenterData

    found = boxes.read_run(paths) if member.view.crop == "box" else {}
    return SegmenterData(prepared, found, member, image_ids, seed)


def write_maps(folder: Path, models: list, data, image_ids: list[str], on) -> None:
    """Write maps.npy and its index, one image at a time, so that memory does not grow with the data."""
    from stage2_segment.infer import maps

    size, probs = data.member.view.largest, []
    with replacing(folder / "maps.npy") as temporary:
        shape = (len(image_ids), size, size)
        rows = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        reserve(temporary)
        with explain_memory(f"{folder.parent.name}, {folder.name}", data.member.training):
            for row, (found, prob) in enumerate(maps(models, data, image_ids, on)):
                rows[row] = found
                probs.append(prob)
        rows.flush()
    index = pd.DataFrame({"image_id": image_ids, "row": range(len(image_ids)), "prob": probs})
    tables.write(index, folder / "index.parquet", tables.MAP_INDEX)


if __name__ == "__main__":
    run_main(main)
