"""The mask stack: nets over the segmenters' maps, each trained without the fold that it scores, and their maps.

python -m stage3_stack.mask_stacker.train [--mask-stacker.steps 500 ...]
"""

import sys
from collections.abc import Iterator

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
from stage3_stack.postprocessing.final_masks import fold_of_images, open_held_out_maps
from stage3_stack.postprocessing.mean_maps import read_maps
from stage3_stack.stacking import out_of_fold


def main() -> None:
    """Command: the mask stack of the chosen recipe, where it asks for one; --key value overrides a setting."""
    chosen_recipe, paths = recipe.load_recipe_and_paths()
    stage_settings = settings.override_settings(
        read_stack_settings(chosen_recipe), sys.argv[1:], "python -m stage3_stack.mask_stacker.train"
    )
    if stage_settings.masks == "stacker":
        step = build_mask_step(chosen_recipe, paths, stage_settings)
        run_step(step, lambda identity, metrics: metrics.update(train_mask_stack(paths, step, identity)))


def train_mask_stack(paths: Paths, step: Step, identity: str) -> dict:
    """Train the nets, from their checkpoints where there are any, and write maps.npy and index.parquet."""
    prepared = Prepared(paths.prepared_folder, paths.folds_csv)
    held_out_rows = prepared.folds.loc[fold_of_images(prepared, step.settings.trained).index]
    nested_by, group = out_of_fold.nesting_groups(held_out_rows)
    if len(np.unique(group)) < 2:
        raise UsageError(
            f"the mask stack needs images in two {nested_by}s at least, as no net may score what it has seen"
        )
    test_ids = prepared.list_ids("test")
    images = open_held_out_maps(paths, step.settings.segmenters, held_out_rows["fold"])
    mean_map_of_image = dict(zip(images.ids, images.mean_maps, strict=True))
    mean_map_of_image |= dict.fromkeys(test_ids, read_maps(paths, step.settings.segmenters, None, test_ids))
    nets, metrics = {}, {}
    for key in np.unique(group).tolist():
        data = MaskData(
            prepared,
            mean_map_of_image,
            step.settings.stacker,
            held_out_rows.index[group != key].tolist(),
            step.settings.seed,
        )
        nets[key], metrics[f"{nested_by} {key}"] = _fit_net(
            data, step, identity, key, f"{step.name}, {nested_by} {key}"
        )
    _write_maps(
        step,
        data,
        _predict_maps(nets, data, pd.Series(group, held_out_rows.index), test_ids),
        [*held_out_rows.index, *test_ids],
    )
    for key in nets:
        (step.folder / f"net{key}" / "checkpoint.pt").unlink(missing_ok=True)
    return {"nested_by": nested_by, "size": data.size, "nets": metrics}


def _fit_net(data: MaskData, step: Step, identity: str, key: int, label: str) -> tuple:
    """The net that scores a group of images, which it does not train on."""
    from cxr.torchkit.device import seed_torch, select_device
    from cxr.torchkit.loop import fit
    from stage3_stack.mask_stacker.network import MaskNet, bce_dice_loss

    seed_torch(data.seed, key)
    net = MaskNet(len(step.settings.segmenters), data.stacker)
    return net, fit(
        net, data, bce_dice_loss, data.training, step.folder / f"net{key}", identity, select_device(), label=label
    )


def _predict_maps(
    nets: dict, data: MaskData, group: pd.Series, test_ids: list[str]
) -> Iterator[tuple[list[str], Iterator]]:
    """Images, and the maps of each: held-out ones by the net that did not see them, test ones by the mean of all."""
    from cxr.torchkit.device import select_device
    from stage3_stack.mask_stacker.network import predict_stacked_maps

    for key, net in nets.items():
        group_ids = group.index[group == key].tolist()
        yield group_ids, predict_stacked_maps([net], data, group_ids, select_device())
    yield test_ids, predict_stacked_maps(list(nets.values()), data, test_ids, select_device())


def _write_maps(
    step: Step, data: MaskData, ids_and_maps: Iterator[tuple[list[str], Iterator]], image_ids: list[str]
) -> None:
    """Write the maps one image at a time, so that memory does not grow with the data, and then their index."""
    row_of_image = {image_id: row for row, image_id in enumerate(image_ids)}
    with write_atomically(step.folder / "maps.npy") as temporary:
        shape = (len(image_ids), data.size, data.size)
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        reserve_disk_space(temporary)
        for part_ids, maps in ids_and_maps:
            for image_id, prob_map in zip(part_ids, maps, strict=True):
                array[row_of_image[image_id]] = prob_map
        array.flush()
    label_head_probs = [data.mean_map_of_image[image_id].mean_head_prob(image_id) for image_id in image_ids]
    index = pd.DataFrame({"image_id": image_ids, "row": range(len(image_ids)), "prob": label_head_probs})
    tables.write_table(index, step.folder / "index.parquet", tables.MAP_INDEX)


if __name__ == "__main__":
    run_main(main)
