"""Train one classifier on all folds but one; write its probabilities and features of that fold and of the test.

python -m stage1_classify.train --member effb4_crop --fold 0 [--training.epochs 5 ...]
"""

import argparse
import importlib
import sys

import numpy as np
import pandas as pd

from cxr import boxes, tables, weights
from cxr.config import from_command_line
from cxr.errors import run_main
from cxr.files import replacing
from cxr.metrics import auc
from cxr.paths import Paths
from cxr.plan import Unit, run
from cxr.prepared import Prepared
from cxr.recipe import Recipe, chosen
from stage1_classify import config
from stage1_classify.check import resolve
from stage1_classify.frameworks import own


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage1_classify.train", description="other options override the member's")
    parser.add_argument("--member", help="a file of configs/, by name; all of the recipe's by default")
    parser.add_argument("--fold", type=int, help="the fold to hold out; all that the recipe trains by default")
    asked, overrides = parser.parse_known_args()
    recipe, paths = chosen()
    members = config.members(recipe, [asked.member] if asked.member else None)
    for name, member in own(members, "stage1_classify.train", sys.argv[1:]):
        member = from_command_line(member, overrides, f"{parser.prog} --member {name}")
        resolve(name, member)
        for fold in recipe.folds_of(asked.fold):
            unit = config.unit(recipe, paths, name, fold, member)
            run(unit, lambda identity, metrics, unit=unit: train(unit, recipe, paths, identity, metrics))


def train(unit: Unit, recipe: Recipe, paths: Paths, identity: str, metrics: dict) -> None:
    """Fit the unit's model, from its checkpoint where there is one, and write what it says."""
    from stage1_classify.data import ClassifierData

    member, fold = unit.config.member, unit.config.fold
    backend = importlib.import_module(f"stage1_classify.{member.framework}_backend")
    prepared = Prepared(paths.prepared, paths.folds)
    train_ids, watch_ids, held_out = prepared.split_fold(fold, member.training.validates)
    found = boxes.read_run(paths) if member.view.crop == "box" else {}
    data = ClassifierData(prepared, found, member, train_ids, recipe.seed)
    metrics["start"] = weights.record(config.start(member))
    metrics |= backend.fit(data, watch_ids, unit.folder, identity, unit.name, fold)
    image_ids = held_out + prepared.ids("unlabelled") + prepared.ids("test")
    prob, features = backend.infer(data, image_ids, unit.folder)
    _write(unit, prepared, image_ids, prob, features)
    metrics["auc"] = auc(prepared.labels(held_out), prob[: len(held_out)])
    for checkpoint in unit.folder.glob("checkpoint.*"):
        checkpoint.unlink()


def _write(unit: Unit, prepared: Prepared, image_ids: list[str], prob: np.ndarray, features: np.ndarray) -> None:
    split = prepared.manifest.loc[image_ids, "split"].to_numpy()
    table = pd.DataFrame({"image_id": image_ids, "split": split, "prob": prob})
    tables.write(table, unit.folder / "predictions.parquet", tables.PREDICTIONS)
    with replacing(unit.folder / "features.npz") as temporary:
        np.savez(temporary, image_id=np.array(image_ids, dtype=np.str_), features=features.astype(np.float32))


if __name__ == "__main__":
    run_main(main)
