"""Write a segmenter's maps of the test images: the mean over the models of the folds.

python -m stage2_segment.predict --member unet_effb4_crop [--training.batch 4 ...]
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr import tables
from cxr.config import override_settings
from cxr.datasets import box_table
from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError, run_main
from cxr.files import reserve_disk_space, write_atomically
from cxr.paths import Paths
from cxr.recipe import Recipe, load_recipe_and_paths
from cxr.step import Step, run_step
from cxr.training.training_state import explain_out_of_memory
from stage2_segment import config
from stage2_segment.check import resolve_members

if TYPE_CHECKING:
    import torch
    from torch import nn

    from stage2_segment.data import SegmenterData


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage2_segment.predict", description="other options override the member's")
    parser.add_argument("--member", help="a file of configs/, by name; all of the recipe's by default")
    arguments, overrides = parser.parse_known_args()
    recipe, paths = load_recipe_and_paths()
    members = config.read_members(recipe, arguments.member)
    names = [arguments.member] if arguments.member else recipe.stage2
    members |= {name: override_settings(members[name], overrides, f"{parser.prog} --member {name}") for name in names}
    members = resolve_members(recipe, names, members)
    for name in names:
        make_test_maps(recipe, paths, name, members[name])


def make_test_maps(recipe: Recipe, paths: Paths, name: str, member: config.SegmenterConfig) -> None:
    """Write the test maps of one member, unless they are up to date.

    recipe: which folds are trained, and the seed
    paths: of the run
    name: the member's, as in the recipe
    member: its settings, resolved (check.resolve_members)
    Raises UsageError where the weights of a fold are missing.
    """
    step = config.build_test_step(recipe, paths, name, member)
    run_step(step, lambda _identity, _metrics: predict(step, name, recipe, paths))


def predict(step: Step, name: str, recipe: Recipe, paths: Paths) -> None:
    """Average the folds' models image by image, and write the test maps.

    step: of config.build_test_step
    name: the member's, as in the recipe
    recipe: which folds are trained, and the seed
    paths: of the run
    Raises UsageError where the weights of a fold are missing.
    """
    from cxr.torchkit.checkpoint import load_weights
    from cxr.torchkit.device import select_device
    from stage2_segment.networks import Segmenter

    member = step.settings.member
    prepared = Prepared(paths.prepared_folder, paths.folds_csv)
    data = open_data(prepared, paths, member, [], recipe.seed)
    models = []
    for fold in recipe.folds_to_train:
        weights_path = paths.fold_folder(2, name, fold) / "weights.safetensors"
        if not weights_path.is_file():
            raise UsageError(
                f"{weights_path} is missing; it is made by: stage2_segment.train --member {name} --fold {fold}"
            )
        models.append(Segmenter(member))
        models[-1].load_state_dict(load_weights(weights_path))
    write_maps(step.folder, models, data, prepared.list_ids("test"), select_device())


def open_data(
    prepared: Prepared, paths: Paths, member: config.SegmenterConfig, image_ids: list[str], seed: int
) -> "SegmenterData":
    """The examples of a step.

    prepared: pixels, masks and folds
    paths: of the run; its chest boxes are read only if the member crops to them
    member: the segmenter's settings
    image_ids: images to train on; none for inference alone
    seed: of the recipe
    """
    from stage2_segment.data import SegmenterData

    chest_boxes = box_table.read_run_boxes(paths) if member.view.crop == "box" else {}
    return SegmenterData(prepared, chest_boxes, member, image_ids, seed)


def write_maps(
    folder: Path, models: list["nn.Module"], data: "SegmenterData", image_ids: list[str], device: "torch.device"
) -> None:
    """Write maps.npy and its index, one image at a time, so that memory does not grow with the data.

    folder: of the step
    models: Segmenters whose probabilities are averaged
    data: where the images are read from
    image_ids: which images, in the order of the rows
    device: where the models run
    """
    from stage2_segment.inference import predict_maps

    size, probs = data.member.view.inference_size, []
    with write_atomically(folder / "maps.npy") as temporary:
        shape = (len(image_ids), size, size)
        map_array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        reserve_disk_space(temporary)
        with explain_out_of_memory(f"{folder.parent.name}, {folder.name}", data.member.training):
            for row, (prob_map, prob) in enumerate(predict_maps(models, data, image_ids, device)):
                map_array[row] = prob_map
                probs.append(prob)
        map_array.flush()
    index = pd.DataFrame({"image_id": image_ids, "row": range(len(image_ids)), "prob": probs})
    tables.write_table(index, folder / "index.parquet", tables.MAP_INDEX)


if __name__ == "__main__":
    run_main(main)
