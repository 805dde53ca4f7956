"""Train one classifier on all folds but one; write its probabilities and features of that fold and of the test.

python -m stage1_classify.train --member effb4_crop --fold 0 [--training.epochs 5 ...]
"""

import argparse
import importlib
import sys

import numpy as np
import pandas as pd

from cxr import tables
from cxr.config import override_settings
from cxr.datasets import box_table
from cxr.datasets.prepared import Prepared
from cxr.errors import run_main
from cxr.files import write_atomically
from cxr.paths import Paths
from cxr.recipe import Recipe, load_recipe_and_paths
from cxr.step import Step, run_step
from cxr.training import start_weights
from evaluation.metrics import roc_auc
from stage1_classify import config
from stage1_classify.check import ensure_start_weights
from stage1_classify.frameworks import dispatch_by_framework


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage1_classify.train", description="other options override the member's")
    parser.add_argument("--member", help="a file of configs/, by name; all of the recipe's by default")
    parser.add_argument("--fold", type=int, help="the fold to hold out; all that the recipe trains by default")
    arguments, overrides = parser.parse_known_args()
    recipe, paths = load_recipe_and_paths()
    members = config.read_members(recipe, [arguments.member] if arguments.member else None)
    for name, member in dispatch_by_framework(members, "stage1_classify.train", sys.argv[1:]):
        member = override_settings(member, overrides, f"{parser.prog} --member {name}")
        ensure_start_weights(name, member)
        for fold in recipe.select_folds(arguments.fold):
            step = config.build_training_step(recipe, paths, name, fold, member)
            run_step(step, lambda identity, metrics, step=step: train(step, recipe, paths, identity, metrics))


def train(step: Step, recipe: Recipe, paths: Paths, identity: str, metrics: dict) -> None:
    """Fit the step's model, from its checkpoint where there is one, and write what it says.

    step: the step, with its settings and folder.
    recipe: the chosen recipe.
    paths: folders of the run.
    identity: fingerprint of the step; a checkpoint of another one is not taken up.
    metrics: metrics for run.json, added to.
    """
    from stage1_classify.data import ClassifierData

    member, fold = step.settings.member, step.settings.fold
    backend = importlib.import_module(f"stage1_classify.{member.framework}_members.backend")
    prepared = Prepared(paths.prepared_folder, paths.folds_csv)
    train_ids, val_ids, held_out = prepared.split_fold(fold, member.training.uses_validation)
    chest_boxes = box_table.read_run_boxes(paths) if member.view.crop == "box" else {}
    data = ClassifierData(prepared, chest_boxes, member, train_ids, recipe.seed)
    metrics["start"] = start_weights.record_start(config.get_start_weights(member))
    metrics |= backend.fit(data, val_ids, step.folder, identity, step.name, fold)
    image_ids = held_out + prepared.list_ids("unlabelled") + prepared.list_ids("test")
    prob, features = backend.infer(data, image_ids, step.folder)
    _write_predictions(step, prepared, image_ids, prob, features)
    metrics["auc"] = roc_auc(prepared.read_labels(held_out), prob[: len(held_out)])
    for checkpoint in step.folder.glob("checkpoint.*"):
        checkpoint.unlink()


def _write_predictions(
    step: Step, prepared: Prepared, image_ids: list[str], prob: np.ndarray, features: np.ndarray
) -> None:
    split = prepared.manifest.loc[image_ids, "split"].to_numpy()
    table = pd.DataFrame({"image_id": image_ids, "split": split, "prob": prob})
    tables.write_table(table, step.folder / "predictions.parquet", tables.PREDICTIONS)
    with write_atomically(step.folder / "features.npz") as temporary:
        np.savez(temporary, image_id=np.array(image_ids, dtype=np.str_), features=features.astype(np.float32))


if __name__ == "__main__":
    run_main(main)
