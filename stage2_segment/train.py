"""Train one segmenter on all folds but one, and write its full-frame maps of that fold.

python -m stage2_segment.train --member unet_effb4_crop --fold 0 [--training.epochs 5 ...]
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cxr import runs
from cxr.config import override_settings
from cxr.datasets.prepared import Prepared
from cxr.errors import DataError, run_main
from cxr.paths import Paths
from cxr.recipe import Recipe, load_recipe_and_paths
from cxr.step import Step, run_step
from cxr.training import start_weights
from stage2_segment import config, predict
from stage2_segment.check import resolve_members
from stage2_segment.predict import open_data, write_maps

if TYPE_CHECKING:
    from stage2_segment.data import SegmenterData
    from stage2_segment.networks import Segmenter


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage2_segment.train", description="other options override the member's")
    parser.add_argument("--member", help="a file of configs/, by name; all of the recipe's by default")
    parser.add_argument("--fold", type=int, help="train this fold alone; by default all, and then the test maps")
    arguments, overrides = parser.parse_known_args()
    recipe, paths = load_recipe_and_paths()
    members = config.read_members(recipe, arguments.member)
    names = [arguments.member] if arguments.member else list(members)
    members |= {name: override_settings(members[name], overrides, f"{parser.prog} --member {name}") for name in names}
    members = resolve_members(recipe, names, members)
    for name in names:
        for fold in recipe.select_folds(arguments.fold):
            _train_with_start_members(recipe, paths, members, name, fold)
        if arguments.fold is None and name not in config.pretraining_only(recipe):
            predict.make_test_maps(recipe, paths, name, members[name])


def _train_with_start_members(recipe: Recipe, paths: Paths, members: dict, name: str, fold: int) -> None:
    """Train a member on a fold, after the members that it starts from, where those are not trained yet."""
    for start_name in config.list_start_members(name, members[name]):
        _train_once(_build_step(recipe, paths, start_name, fold, members[start_name]), recipe, paths)
    _run_training(_build_step(recipe, paths, name, fold, members[name]), recipe, paths)


def _build_step(recipe: Recipe, paths: Paths, name: str, fold: int, member: config.SegmenterConfig) -> Step:
    writes_maps = name not in config.pretraining_only(recipe)
    return config.build_training_step(recipe, paths, name, fold, member, writes_maps)


def _run_training(step: Step, recipe: Recipe, paths: Paths) -> None:
    run_step(step, lambda identity, metrics: train(step, recipe, paths, identity, metrics))


def _train_once(step: Step, recipe: Recipe, paths: Paths) -> None:
    """Train a member that another starts from, if it is out of date; FORCE=1 retrains only the member that is named."""
    if not runs.matches_identity(step.folder, step.identity):
        _run_training(step, recipe, paths)


def train(step: Step, recipe: Recipe, paths: Paths, identity: str, metrics: dict) -> None:
    """Fit the step's model, from its checkpoint if there is one, and write its held-out maps.

    step: of config.build_training_step
    recipe: its seed
    paths: of the run
    identity: fingerprint of the step, which a checkpoint has to match
    metrics: filled with the training's metrics and `start`, the file that the network started from
    Raises DataError where a member that trains on positives only has none.
    """
    from cxr.torchkit.device import seed_torch, select_device
    from cxr.torchkit.loop import fit
    from stage2_segment.losses import SegmenterLoss
    from stage2_segment.validation import build_validation

    member, fold = step.settings.member, step.settings.fold
    prepared = Prepared(paths.prepared_folder, paths.folds_csv)
    train_ids, val_ids, held_out_ids = prepared.split_fold(fold, member.training.uses_validation)
    _require_positives(step, prepared, train_ids)
    data = open_data(prepared, paths, member, train_ids, recipe.seed)
    seed_torch(recipe.seed, fold)
    start_from = config.start_from_weights(paths, member, fold) if member.start_from else None
    model, device = _build_model(member, data, start_from), select_device()
    metrics["start"] = _record_start(member, start_from)
    loss, score_model = SegmenterLoss(member), build_validation(data, val_ids, device)
    metrics |= fit(model, data, loss, member.training, step.folder, identity, device, score_model, label=step.name)
    if step.settings.maps:
        write_maps(step.folder, [model], data, held_out_ids, device)
    (step.folder / "checkpoint.pt").unlink(missing_ok=True)


def _require_positives(step: Step, prepared: Prepared, train_ids: list[str]) -> None:
    if step.settings.member.sampling.positives_only and not prepared.read_labels(train_ids).any():
        raise DataError(f"{step.name}: it trains on positives only, and {prepared.folds_csv} leaves it none")


def _record_start(member: config.SegmenterConfig, start_from: Path | None) -> dict[str, str]:
    """The file that the network started from, for run.json: name, file, sha256, origin."""
    if start_from is None:
        return start_weights.record_start(config.get_start_weights(member))
    origin = f"stage 2, {start_from.parent.parent.name}, {start_from.parent.name}"
    digest = runs.digest_file(start_from)
    return {"name": member.start_from, "file": start_from.name, "sha256": digest, "origin": origin}


def _build_model(member: config.SegmenterConfig, data: "SegmenterData", start_from: Path | None) -> "Segmenter":
    from cxr.torchkit.loading import load_in_order
    from cxr.torchkit.weights import set_norm_statistics
    from stage2_segment.networks import build_segmenter

    model = build_segmenter(member, start_from)
    if member.recalibrate or model.needs_norm_statistics:
        statistics_ids, training = data.image_ids[: 16 * member.training.batch], member.training
        batches = load_in_order(statistics_ids, data.load_inference_image, training.batch, training.workers)
        model.freezes_norm = False
        set_norm_statistics(model, (batch["image"] for batch in batches))
        model.freezes_norm = member.freeze_norm
    return model


if __name__ == "__main__":
    run_main(main)
