"""All of stage 3: stack the classifiers, choose the decision, write the submission and the figures."""

import sys

import numpy as np
import pandas as pd

from cxr import config as settings
from cxr import plan, recipe
from cxr.errors import run_main
from cxr.paths import Paths
from cxr.prepared import Prepared
from stage3_stack import combine, decide, predict, score
from stage3_stack.config import UnitConfig, read, unit
from stage3_stack.maps import read_maps
from stage3_stack.masks import Images, canvas_truth, count


def main() -> None:
    """Command: stage 3 of the chosen recipe; --key value overrides a setting."""
    chosen, paths = recipe.chosen()
    config = settings.from_command_line(read(chosen), sys.argv[1:], "python -m stage3_stack.train")
    work = unit(chosen, paths, config)
    plan.run(work, lambda _identity, metrics: metrics.update(make(paths, work.config)))


def make(paths: Paths, config: UnitConfig) -> dict:
    """Write stacked.parquet, heads.npz, decision.json and submission.csv; returns the figures of the table."""
    prepared = Prepared(paths.prepared, config.folds)
    combined = combine.combine(paths, prepared, config)
    used = combine.pick(config.config.stacker, combined.held_out) if config.members else None
    held, others = _in_use(combined.held_out, used), _in_use(combined.others, used)
    held = held.assign(share=score.share(prepared, held.index))
    by, group = combine.groups(held)
    images = _held_out_images(paths, held, config)
    counts = count(images, lambda image_id: canvas_truth(prepared, image_id)) if images else None
    decisions = decide.decide(by, group, counts, held["prob"].to_numpy(), config.config.grid)
    held = held.assign(positive=decide.positives(decisions, group, held["prob"].to_numpy()))
    decide.write(paths.stage3 / "decision.json", decisions, counts, held["prob"].to_numpy(), group)
    if used:
        predict.write_heads(paths.stage3 / "heads.npz", combined.stacks, used)
        predict.write_stacked(paths, held, others, decisions.test)
    test_images, test_counts = predict.submission(paths, prepared, config, others, decisions.test)
    tested = others[others["split"] == "test"]
    return {
        "stacker": {"asked": config.config.stacker, "used": used},
        "patients_known": bool(prepared.manifest.loc[held.index, "patient"].notna().all()),
        "decision": decisions.test._asdict(),
        "held_out": score.held_out(held, config, used, prepared, images, counts, decisions, group),
        "test": score.test(tested, paths, config, used, prepared, test_images, test_counts, decisions.test),
    }


def _in_use(table: pd.DataFrame, used: str | None) -> pd.DataFrame:
    """The table with `prob`, of the stacker in use; without classifiers every image passes any gate."""
    return table.assign(prob=table[used] if used else np.ones(len(table)))


def _held_out_images(paths: Paths, held: pd.DataFrame, config: UnitConfig) -> Images | None:
    """The held-out images, each with the maps of the fold that it was held out from; None without segmenters."""
    if not config.segmenters:
        return None
    folds = {fold: rows.index.tolist() for fold, rows in held.groupby("fold")}
    maps = {fold: read_maps(paths, config.segmenters, int(fold), ids) for fold, ids in folds.items()}
    return Images(held.index.tolist(), [maps[fold] for fold in held["fold"]])


if __name__ == "__main__":
    run_main(main)
