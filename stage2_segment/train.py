"""Train one segmenter on all folds but one, and write its full-frame maps of that fold.

python -m stage2_segment.train --member unet_effb4_crop --fold 0 [--training.epochs 5 ...]
"""

import argparse
from pathlib import Path

from cxr import runs, weights
from cxr.config import from_command_line
from cxr.errors import DataError, run_main
from cxr.paths import Paths
from cxr.plan import Unit, run
from cxr.prepared import Prepared
from cxr.recipe import Recipe, chosen
from stage2_segment import config, predict
from stage2_segment.check import ready
from stage2_segment.predict import open_data, write_maps


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage2_segment.train", description="other options override the member's")
    parser.add_argument("--member", help="a file of configs/, by name; all of the recipe's by default")
    parser.add_argument("--fold", type=int, help="train this fold alone; by default all, and then the test maps")
    asked, overrides = parser.parse_known_args()
    recipe, paths = chosen()
    found = config.members(recipe, asked.member)
    names = [asked.member] if asked.member else list(found)
    found |= {name: from_command_line(found[name], overrides, f"{parser.prog} --member {name}") for name in names}
    found = ready(recipe, names, found)
    for name in names:
        for fold in recipe.folds_of(asked.fold):
            _after_its_formers(recipe, paths, found, name, fold)
        if asked.fold is None and name not in config.only_formers(recipe):
            predict.make(recipe, paths, name, found[name])


def _after_its_formers(recipe: Recipe, paths: Paths, found: dict, name: str, fold: int) -> None:
    """Train a member on a fold; before it, where that is not done, those that it starts from."""
    for former in config.formers(name, found[name]):
        _once(_unit(recipe, paths, former, fold, found[former]), recipe, paths)
    _make(_unit(recipe, paths, name, fold, found[name]), recipe, paths)


def _unit(recipe: Recipe, paths: Paths, name: str, fold: int, member: config.SegmenterConfig) -> Unit:
    return config.unit(recipe, paths, name, fold, member, maps=name not in config.only_formers(recipe))


def _make(unit: Unit, recipe: Recipe, paths: Paths) -> None:
    run(unit, lambda identity, metrics: train(unit, recipe, paths, identity, metrics))


def _once(former: Unit, recipe: Recipe, paths: Paths) -> None:
    """Train what another member starts from where that is not done; FORCE=1 is for the member that was asked for."""
    if not runs.is_made(former.folder, former.identity):
        _make(former, recipe, paths)


def train(unit: Unit, recipe: Recipe, paths: Paths, identity: str, metrics: dict) -> None:
    """Fit the unit's model, from its checkpoint where there is one, and write its held-out maps."""
    from cxr.torchkit.device import device, seed
    from cxr.torchkit.loop import fit
    from stage2_segment.losses import SegmenterLoss
    from stage2_segment.watch import watch

    member, fold = unit.config.member, unit.config.fold
    prepared = Prepared(paths.prepared, paths.folds)
    train_ids, watch_ids, held_out = prepared.split_fold(fold, member.training.validates)
    if member.sampling.positives_only and not prepared.labels(train_ids).any():
        raise DataError(f"{unit.name}: it trains on positives only, and {paths.folds} leaves it none")
    data = open_data(prepared, paths, member, train_ids, recipe.seed)
    seed(recipe.seed, fold)
    former = config.former_weights(paths, member, fold) if member.start_from else None
    model, on = _start(member, data, former), device()
    metrics["start"] = _started(member, former)
    metrics |= fit(
        model, data, SegmenterLoss(member), member.training, unit.folder, identity, on,
        watch(data, watch_ids, on), label=unit.name,
    )  # fmt: skip
    if unit.config.maps:
        write_maps(unit.folder, [model], data, held_out, on)
    (unit.folder / "checkpoint.pt").unlink(missing_ok=True)


def _started(member: config.SegmenterConfig, former: Path | None) -> dict[str, str]:
    """For run.json: the file that the network started from."""
    if former is None:
        return weights.record(config.start(member))
    whose = f"stage 2, {former.parent.parent.name}, {former.parent.name}"
    return {"name": member.start_from, "file": former.name, "sha256": runs.digest(former), "origin": whose}


def _start(member: config.SegmenterConfig, data, former: Path | None):
    from cxr.torchkit.loading import in_order
    from cxr.torchkit.weights import recalibrated
    from stage2_segment.models import build

    model = build(member, former)
    if member.recalibrate or model.unset_norm:
        some = data.image_ids[: 16 * member.training.batch]
        batches = in_order(some, data.plain, member.training.batch, member.training.workers)
        model.frozen_norm = False
        recalibrated(model, (batch["image"] for batch in batches))
        model.frozen_norm = member.freeze_norm
    return model


if __name__ == "__main__":
    run_main(main)
