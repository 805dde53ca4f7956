"""Made-up runs for the report's tests: a small one with all files of stage 3, and cases of a large one."""

import numpy as np
import pandas as pd

from cxr import tables
from cxr.datasets.prepared import Prepared
from cxr.files import read_json, write_json
from cxr.paths import Paths
from evaluation.leakage import measure_leakage
from evaluation.panel import compute_panel
from pipeline.run_files import RunFiles
from tests.evaluation.panel_cases import made
from tests.stage3_stack.toy_world import World

DECISION = {
    "top_score_threshold": 0.7, "min_area": 600, "bottom_score_threshold": 0.3, "probability_threshold": 0.5,
    "label_head_threshold": 0.0, "min_component_area": 0.0, "reference_size": 1024,
}  # fmt: skip
SEARCH = {
    "fold_spread": {
        "top_score_threshold": [0.6, 0.7], "min_area": [500, 700], "bottom_score_threshold": [0.3, 0.3],
        "probability_threshold": [0.4, 0.5],
    },
    "near_optimal_range": {
        "top_score_threshold": [0.5, 0.8], "min_area": [0, 1200], "bottom_score_threshold": [0.2, 0.4],
        "probability_threshold": [0.3, 0.6],
    },
    "gain_over_plain": 0.021, "nested": 0.812, "plain": 0.791, "all_empty": 0.6,
}  # fmt: skip


def write_run(world: World) -> RunFiles:
    """Write what stage 3 would write for a world, with made-up cases."""
    paths, prepared = world.paths, Prepared(world.paths.prepared_folder, world.paths.folds_csv)
    folds, tests = prepared.folds, prepared.list_ids("test")
    fold = folds["fold"].to_numpy()
    held_out = made(len(folds)).assign(image_id=folds.index, fold=fold, head=fold)
    held_out["label"] = prepared.read_labels(folds.index.tolist()).astype(float)
    test = made(len(tests), seed=1).assign(image_id=tests, split="test", fold=-1, head=0)
    cases = pd.concat([held_out, test], ignore_index=True)
    cases["truth"] = np.where(cases["label"] > 0, cases["truth"].clip(lower=60), 0)
    cases["share"], cases["overlap"] = cases["truth"] / 9000, np.minimum(cases["truth"], cases["found"]) // 2
    write_stage3(world, cases)
    folds_table = folds[["image_id", "fold"]].reset_index(drop=True)
    labels = prepared.manifest["label"].dropna().to_dict()
    write_json(
        paths.stage3_folder / "leaks.json", measure_leakage(folds_table, None, dict.fromkeys(folds.index, 0), labels)
    )
    return RunFiles(world.recipe, paths)


def change_decision(paths: Paths, **changes: object) -> None:
    """Change keys of decision.json."""
    path = paths.stage3_folder / "decision.json"
    write_json(path, read_json(path) | changes)


def write_stage3(world: World, cases: pd.DataFrame, resamples: int = 100) -> None:
    """Write cases, scores, panel, stacked, decision, search and run.json."""
    stage3, random = world.paths.stage3_folder, np.random.default_rng(0)
    tables.write_table(cases, stage3 / "cases.parquet", tables.CASES)
    tables.write_table(cases, stage3 / "stacked.parquet", tables.STACKED)
    noise = {name: np.clip(cases["prob"] + random.normal(0, 0.1, len(cases)), 0.01, 0.99) for name in COLUMNS}
    scores = pd.DataFrame({"image_id": cases["image_id"]} | noise)
    scores.sample(frac=1, random_state=0).to_parquet(stage3 / "scores.parquet")  # joined by key, not by order
    write_json(stage3 / "panel.json", compute_panel(cases, resamples))
    held_out = {"nested_by": "fold"} | {str(fold): DECISION for fold in world.recipe.folds_to_train}
    write_json(stage3 / "decision.json", {
        "note": "", "test": DECISION, "held_out": held_out, "search": SEARCH, "inconclusive_zone": None,
        "operating_point": {"target": {"specificity": 0.93}, "specificity": 0.931, "held_out": {"specificity": 0.9}},
        "calibration": {"kind": "temperature"},
    })  # fmt: skip
    levels, thresholds = np.arange(20, 250, 10), np.linspace(0, 1, 9)
    surface = 0.8 - ((levels[:, None] - 180) ** 2 + (levels - 80) ** 2) / 3e5
    np.savez(
        stage3 / "search.npz", top_levels=levels, bottom_levels=levels, surface=surface,
        probability_thresholds=thresholds, probability_threshold_dice=0.8 - (thresholds - 0.5) ** 2,
        min_areas=np.arange(0, 3000, 50), min_area_dice=np.linspace(0.8, 0.7, 60),
    )  # fmt: skip
    write_json(stage3 / "run.json", {
        "seconds": 12.5, "commit": "0123456789", "versions": {"python": "3.11"}, "config": {"stacker": "dense"},
        "metrics": {"stacker": {"used": "dense"}}, "peak_bytes": 1.5e9,
    })  # fmt: skip


COLUMNS = ("member a", "member b", "mean", "logistic", "lightgbm", "dense", "uncalibrated")
