"""The mask stack: nets over the segmenters' maps, each trained without the fold that it scores, and their maps.

python -m stage3_stack.mask_train [--mask-stacker.steps 500 ...]
"""

import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd

from cxr import config as settings
from cxr import plan, recipe, tables
from cxr.errors import UsageError, run_main
from cxr.files import replacing, reserve
from cxr.paths import Paths
from cxr.plan import Unit
from cxr.prepared import Prepared
from stage3_stack import combine
from stage3_stack.config import mask_unit, read
from stage3_stack.maps import read_maps
from stage3_stack.mask_data import MaskData
from stage3_stack.masks import fold_of, held_out


def main() -> None:
    """Command: the mask stack of the chosen recipe, where it asks for one; --key value overrides a setting."""
    chosen, paths = recipe.chosen()
    config = settings.from_command_line(read(chosen), sys.argv[1:], "python -m stage3_stack.mask_train")
    if config.masks == "stacker":
        unit = mask_unit(chosen, paths, config)
        plan.run(unit, lambda identity, metrics: metrics.update(make(paths, unit, identity)))


def make(paths: Paths, unit: Unit, identity: str) -> dict:
    """Train the nets, from their checkpoints where there are any, and write maps.npy and index.parquet."""
    prepared = Prepared(paths.prepared, paths.folds)
    held = prepared.folds.loc[fold_of(prepared, unit.config.trained).index]
    by, group = combine.groups(held)
    if len(np.unique(group)) < 2:
        raise UsageError(f"the mask stack needs images in two {by}s at least, as no net may score what it has seen")
    tests = prepared.ids("test")
    images = held_out(paths, unit.config.segmenters, held["fold"])
    maps = dict(zip(images.ids, images.maps, strict=True))
    maps |= dict.fromkeys(tests, read_maps(paths, unit.config.segmenters, None, tests))
    nets, metrics = {}, {}
    for key in np.unique(group).tolist():
        data = MaskData(prepared, maps, unit.config.stacker, held.index[group != key].tolist(), unit.config.seed)
        nets[key], metrics[f"{by} {key}"] = _fit(data, unit, identity, key, f"{unit.name}, {by} {key}")
    _write(unit, data, _maps(nets, data, pd.Series(group, held.index), tests), [*held.index, *tests])
    for key in nets:
        (unit.folder / f"net{key}" / "checkpoint.pt").unlink(missing_ok=True)
    return {"nested_by": by, "size": data.size, "nets": metrics}


def _fit(data: MaskData, unit: Unit, identity: str, key: int, label: str) -> tuple:
    """The net that scores a group of images, which it does not train on."""
    from cxr.torchkit.device import device, seed
    from cxr.torchkit.loop import fit
    from stage3_stack.mask_net import MaskNet, loss

    seed(data.seed, key)
    net = MaskNet(len(unit.config.segmenters), data.stacker)
    return net, fit(net, data, loss, data.training, unit.folder / f"net{key}", identity, device(), label=label)


def _maps(nets: dict, data: MaskData, group: pd.Series, tests: list[str]) -> Iterator[tuple[list[str], Iterator]]:
    """Images, and the maps of each: held-out ones by the net that did not see them, test ones by the mean of all."""
    from cxr.torchkit.device import device
    from stage3_stack.mask_net import stacked

    for key, net in nets.items():
        own = group.index[group == key].tolist()
        yield own, stacked([net], data, own, device())
    yield tests, stacked(list(nets.values()), data, tests, device())


def _write(unit: Unit, data: MaskData, parts: Iterator[tuple[list[str], Iterator]], image_ids: list[str]) -> None:
    """Write the maps one image at a time, so that memory does not grow with the data, and then their index."""
    place = {image_id: row for row, image_id in enumerate(image_ids)}
    with replacing(unit.folder / "maps.npy") as temporary:
        shape = (len(image_ids), data.size, data.size)
        rows = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        reserve(temporary)
        for own, maps in parts:
            for image_id, found in zip(own, maps, strict=True):
                rows[place[image_id]] = found
        rows.flush()
    heads = [data.maps[image_id].head(image_id) for image_id in image_ids]
    index = pd.DataFrame({"image_id": image_ids, "row": range(len(image_ids)), "prob": heads})
    tables.write(index, unit.folder / "index.parquet", tables.MAP_INDEX)


if __name__ == "__main__":
    run_main(main)
