"""Train one segmenter on all folds but one, and write its full-frame maps of that fold.

python -m stage2_segment.train --member unet_effb4_crop --fold 0 [--training.epochs 5 ...]
"""

import argparse

from cxr.config import from_command_line
from cxr.errors import run_main
from cxr.paths import Paths
from cxr.plan import Unit, run
from cxr.prepared import Prepared
from cxr.recipe import Recipe, chosen
from stage2_segment import config, predict
from stage2_segment.predict import open_data, write_maps


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage2_segment.train", description="other options override the member's")
    parser.add_argument("--member", help="a file of configs/, by name; all of the recipe's by default")
    parser.add_argument("--fold", type=int, help="train this fold alone; by default all, and then the test maps")
    asked, overrides = parser.parse_known_args()
    recipe, paths = chosen()
    for name in [asked.member] if asked.member else recipe.stage2:
        member = config.with_weights(recipe, config.read(name))
        member = from_command_line(member, overrides, f"{parser.prog} --member {name}")
        for fold in recipe.folds_of(asked.fold):
            unit = config.unit(recipe, paths, name, fold, member)
            run(unit, lambda identity, metrics, unit=unit: train(unit, recipe, paths, identity, metrics))
        if asked.fold is None:
            predict.make(recipe, paths, name, member)


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


def _start(member: config.SegmenterConfig, data):
    from cxr.torchkit.loading import in_order
    from cxr.torchkit.weights import recalibrated
    from stage2_segment.models import build

    model = build(member)
    if member.recalibrate:
        some = data.image_ids[: 16 * member.training.batch]
        recalibrated(model, (batch["image"] for batch in in_order(some, data.plain, member.training.batch)))
    return model


if __name__ == "__main__":
    run_main(main)
