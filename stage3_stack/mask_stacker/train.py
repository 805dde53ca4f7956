"""The mask stack: networks over the segmenters' maps, each trained without the group that it scores, and their maps.

python -m stage3_stack.mask_stacker.train [--mask-stacker.steps 500 ...]
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr import config as settings
from cxr import recipe, tables
from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError, run_main
from cxr.files import reserve_disk_space, write_atomically
from cxr.paths import Paths
from cxr.step import Step, run_step
from stage3_stack.config import build_mask_step, read_stack_settings
from stage3_stack.mask_stacker.data import MaskData
from stage3_stack.postprocessing.map_sets import open_held_out_maps
from stage3_stack.postprocessing.mean_maps import MeanMap, read_maps
from stage3_stack.postprocessing.nesting import fold_of_images, nesting_groups


def main() -> None:
    """Command: the mask stack of the chosen recipe, if its settings use one; --key value overrides a setting."""
    chosen_recipe, paths = recipe.load_recipe_and_paths()
    stage_settings = settings.override_settings(
        read_stack_settings(chosen_recipe), sys.argv[1:], "python -m stage3_stack.mask_stacker.train"
    )
    if stage_settings.masks == "stacker":
        step = build_mask_step(chosen_recipe, paths, stage_settings)
        run_step(step, lambda identity, metrics: metrics.update(train_mask_stack(paths, step, identity)))


@dataclass(frozen=True)
class MaskStack:
    """What the networks of one mask stack share."""

    step: Step
    prepared: Prepared
    mean_map_of_image: dict[str, MeanMap]
    """The segmenters' maps of every held-out and test image"""
    nested_by: str
    """fold or subfold"""
    group: pd.Series
    """Group of each held-out image, by image_id: its network does not train on it"""
    test_ids: list[str]

    def build_data(self, key: int) -> MaskData:
        """The training examples of the network that scores the group `key`."""
        training_ids = self.group.index[self.group != key].tolist()
        unit = self.step.settings
        return MaskData(self.prepared, self.mean_map_of_image, unit.stacker, training_ids, unit.seed)


def open_mask_stack(paths: Paths, step: Step) -> MaskStack:
    """The images and maps of a mask stack; raises UsageError if a map is missing, or if there is but one group."""
    prepared, unit = Prepared(paths.prepared_folder, paths.folds_csv), step.settings
    held_out = prepared.folds.loc[fold_of_images(prepared, unit.trained).index]
    nested_by, group = nesting_groups(held_out)
    if len(np.unique(group)) < 2:
        raise UsageError(
            f"the mask stack needs images in two {nested_by}s at least, as no net may score what it has seen"
        )
    test_ids = prepared.list_ids("test")
    images = open_held_out_maps(paths, unit.segmenters, held_out["fold"])
    mean_map_of_image = dict(zip(images.ids, images.mean_maps, strict=True))
    mean_map_of_image |= dict.fromkeys(test_ids, read_maps(paths, unit.segmenters, None, test_ids))
    return MaskStack(step, prepared, mean_map_of_image, nested_by, pd.Series(group, held_out.index), test_ids)


def train_mask_stack(paths: Paths, step: Step, identity: str) -> dict:
    """Train the networks, from their checkpoints if there are any, and write maps.npy and index.parquet.

    Returns nested_by, size (side of the maps in pixels) and, under nets, the training metrics of each network. Raises
    UsageError as `open_mask_stack` does.
    """
    stack = open_mask_stack(paths, step)
    nets, metrics = {}, {}
    for key in np.unique(stack.group).tolist():
        nets[key], metrics[f"{stack.nested_by} {key}"] = _fit_net(stack, key, identity)
    data = stack.build_data(key)  # for inference, any of them
    _write_maps(stack, data, _predict_maps(stack, data, nets))
    for key in nets:
        (step.folder / f"net{key}" / "checkpoint.pt").unlink(missing_ok=True)
    return {"nested_by": stack.nested_by, "size": data.size, "nets": metrics}


def _fit_net(stack: MaskStack, key: int, identity: str) -> tuple:
    """The network that scores the group `key`, and the metrics of its training."""
    from cxr.torchkit.device import seed_torch, select_device
    from cxr.torchkit.loop import fit
    from stage3_stack.mask_stacker.network import MaskNet, bce_dice_loss

    data, folder = stack.build_data(key), stack.step.folder / f"net{key}"
    seed_torch(data.seed, key)
    net = MaskNet(len(stack.step.settings.segmenters), data.stacker)
    label = f"{stack.step.name}, {stack.nested_by} {key}"
    return net, fit(net, data, bce_dice_loss, data.training, folder, identity, select_device(), label=label)


def _predict_maps(stack: MaskStack, data: MaskData, nets: dict) -> Iterator[tuple[str, np.ndarray]]:
    """Each image with its map: of held-out images by the network that did not see them, of test images by the mean."""
    from cxr.torchkit.device import select_device
    from stage3_stack.mask_stacker.network import predict_stacked_maps

    for key, net in nets.items():
        group_ids = stack.group.index[stack.group == key].tolist()
        yield from zip(group_ids, predict_stacked_maps([net], data, group_ids, select_device()), strict=True)
    test_maps = predict_stacked_maps(list(nets.values()), data, stack.test_ids, select_device())
    yield from zip(stack.test_ids, test_maps, strict=True)


def _write_maps(stack: MaskStack, data: MaskData, maps: Iterator[tuple[str, np.ndarray]]) -> None:
    """Write the maps one image at a time, so that memory does not grow with the data, and then their index."""
    image_ids = [*stack.group.index, *stack.test_ids]
    row_of_image = {image_id: row for row, image_id in enumerate(image_ids)}
    with write_atomically(stack.step.folder / "maps.npy") as temporary:
        shape = (len(image_ids), data.size, data.size)
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        reserve_disk_space(temporary)
        for image_id, prob_map in maps:
            array[row_of_image[image_id]] = prob_map
        array.flush()
    head_probs = [data.mean_map_of_image[image_id].mean_head_prob(image_id) for image_id in image_ids]
    index = pd.DataFrame({"image_id": image_ids, "row": range(len(image_ids)), "prob": head_probs})
    tables.write_table(index, stack.step.folder / "index.parquet", tables.MAP_INDEX)


if __name__ == "__main__":
    run_main(main)
