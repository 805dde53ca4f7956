"""All of stage 3: stack the classifiers, choose the decision, write the submission and the figures."""

import sys

import numpy as np
import pandas as pd

from cxr import config as settings
from cxr import plan, recipe
from cxr.errors import run_main
from cxr.paths import Paths
from cxr.prepared import Prepared
from stage3_stack import columns, combine, decide, predict, score
from stage3_stack.config import UnitConfig, read, unit
from stage3_stack.decide import Decisions
from stage3_stack.masks import Seen, see_held_out, see_test
from stage3_stack.thresholds import cuts


def main() -> None:
    """Command: stage 3 of the chosen recipe; --key value overrides a setting."""
    chosen, paths = recipe.chosen()
    config = settings.from_command_line(read(chosen), sys.argv[1:], "python -m stage3_stack.train")
    work = unit(chosen, paths, config)
    plan.run(work, lambda _identity, metrics: metrics.update(make(paths, work.config)))


def make(paths: Paths, config: UnitConfig) -> dict:
    """Write stacked.parquet, heads.npz, decision.json and submission.csv; returns the figures of the table."""
    prepared = Prepared(paths.prepared, config.folds)
    mean = _see(paths, prepared, config, "mean")
    final = mean if config.config.masks == "mean" else _see(paths, prepared, config, "stacker")
    beside = columns.gather(paths, prepared, config.config.lightgbm.columns, list(mean or ()))
    combined = combine.combine(paths, prepared, config, beside)
    used = combine.pick(config.config.stacker, combined.held_out)
    held, others = (table.assign(prob=table[used]) for table in (combined.held_out, combined.others))
    held, decisions = _decided(held.assign(share=score.share(prepared, held.index)), final and final[0], config)
    tested = predict.tests(prepared, others)
    predict.write_heads(paths.stage3 / "heads.npz", combined.stacks, used)
    _write(paths, prepared, held, others, final, decisions)
    return _described(config, used, beside, decisions) | {
        "patients_known": bool(prepared.manifest.loc[held.index, "patient"].notna().all()),
        "held_out": score.held_out(held, config, used, prepared, final and final[0], decisions, _group(held)),
        "test": score.test(tested, paths, config, used, prepared, final and final[1], decisions),
        "plain_mean": _plain_mean(held, tested, paths, prepared, config, mean),
    }


def _write(
    paths: Paths, prepared: Prepared, held: pd.DataFrame, others: pd.DataFrame,
    final: tuple[Seen, Seen] | None, decisions: Decisions,
) -> None:  # fmt: skip
    seen_held, seen_test = final or (None, None)
    counts, prob = seen_held and seen_held.counts, held["prob"].to_numpy()
    decide.write(paths.stage3 / "decision.json", decisions, counts, prob, _group(held))
    predict.write_stacked(paths, held, others, decisions.test, seen_test)
    predict.submission(paths, prepared, predict.tests(prepared, others), seen_test, decisions.test)


def _see(paths: Paths, prepared: Prepared, config: UnitConfig, kind: str) -> tuple[Seen, Seen] | None:
    """Held-out and test images with the members' mean maps or the mask stacker's; None without segmenters."""
    if not config.segmenters:
        return None
    tried = cuts(config.config.grid)
    return tuple(see(paths, prepared, config, kind, tried) for see in (see_held_out, see_test))


def _decided(held: pd.DataFrame, seen: Seen | None, config: UnitConfig) -> tuple[pd.DataFrame, Decisions]:
    """The decisions by these maps, and the held-out images with what they make of them."""
    by, group = combine.groups(held)
    counts, prob = seen and seen.counts, held["prob"].to_numpy()
    decisions = decide.decide(by, group, counts, prob, config.config, held["label"].to_numpy())
    return held.assign(positive=decide.positives(decisions, group, counts, prob)), decisions


def _group(held: pd.DataFrame) -> np.ndarray:
    return combine.groups(held)[1]


def _plain_mean(
    held: pd.DataFrame, tested: pd.DataFrame, paths: Paths, prepared: Prepared,
    config: UnitConfig, mean: tuple[Seen, Seen] | None,
) -> dict | None:  # fmt: skip
    """The mean map's figures, where the mask stacker is in use; its decision is chosen anew."""
    if mean is None or config.config.masks == "mean":
        return None
    held, decisions = _decided(held, mean[0], config)
    return score.plain_mean(held, tested, paths, prepared, mean, decisions, _group(held))


def _described(config: UnitConfig, used: str, beside: columns.Columns, decisions: Decisions) -> dict:
    seen = [name for name in config.config.lightgbm.columns if name == "pca" or name in beside]
    return {
        "stacker": {"asked": config.config.stacker, "used": used, "lightgbm_columns": seen},
        "masks": config.config.masks if config.segmenters else None,
        "decision": decisions.test._asdict(),
        "zone": decisions.test_zone and decisions.test_zone._asdict(),
    }


if __name__ == "__main__":
    run_main(main)
