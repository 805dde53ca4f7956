"""All of stage 3: stack the classifiers, choose the decision, write the submission and the figures."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import config as settings
from cxr import plan, recipe
from cxr.errors import run_main
from cxr.files import read_json, write_json
from cxr.panel import panel
from cxr.paths import Paths
from cxr.prepared import Prepared
from stage3_stack import calibrate, cases, columns, combine, decide, figures, leakage, predict, score, stack
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
    """Write all of stage 3 but its run.json; returns the figures of the table."""
    prepared, tubes = Prepared(paths.prepared, paths.folds), cases.chest_tubes(paths.data)
    mean = _see(paths, prepared, config, "mean")
    final = mean if config.config.masks == "mean" else _see(paths, prepared, config, "stacker")
    beside = columns.gather(paths, prepared, config.config.lightgbm.columns, list(mean or ()))
    combined = combine.combine(paths, prepared, config, beside)
    used, *tables = combine.in_use(config.config.stacker, combined)
    held, others = (cases.with_chest_tubes(table, tubes) for table in tables)
    held, decisions = _decided(held, final and final[0], config)
    predict.write_heads(paths.stage3 / "heads.npz", combined.stacks, used)
    scaled = calibrate.record(config.config.calibration, stack.scalings(combined.stacks, used))
    _write(paths, prepared, held, others, final, decisions, scaled)
    return {
        **_described(config, used, beside, decisions),
        **_around(paths.stage3 / "decision.json"),
        **_scored(held, others, paths, prepared, config, final, decisions),
        "plain_mean": _plain_mean(held, others, paths, prepared, config, mean),
    }


def _write(
    paths: Paths, prepared: Prepared, held: pd.DataFrame, others: pd.DataFrame,
    final: tuple[Seen, Seen] | None, decisions: Decisions, scaled: dict,
) -> None:  # fmt: skip
    seen_held, seen_test = final or (None, None)
    counts, prob = seen_held and seen_held.counts, held["prob"].to_numpy()
    decide.write(paths.stage3 / "decision.json", decisions, counts, prob, _group(held), calibration=scaled)
    predict.write_stacked(paths, held, others, decisions.test, seen_test)
    predict.submission(paths, prepared, predict.tests(prepared, others), seen_test, decisions.test)


def _judged(
    held: pd.DataFrame, known: score.Known | None, prepared: Prepared, seen: Seen | None, decisions: Decisions
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Held-out images, and the test images whose truth is known, with what was judged of each."""
    rows = cases.held_out(held, prepared, seen, decisions, _group(held))
    return rows, known and cases.test(known.table, prepared, known.seen, decisions, known.truth)


def _around(path: Path) -> dict:
    """What decision.json says of the search and of the operating point; None where there was nothing to choose by."""
    record = read_json(path)
    return {name: record.get(name) for name in ("search", "operating_point")}


def _scored(
    held: pd.DataFrame, others: pd.DataFrame, paths: Paths, prepared: Prepared, config: UnitConfig,
    final: tuple[Seen, Seen] | None, decisions: Decisions,
) -> dict:  # fmt: skip
    """The figures of held-out and test images; writes what they are of."""
    seen_held, seen_test = final or (None, None)
    known = score.known_test(predict.tests(prepared, others), seen_test, paths, prepared)
    rows, tested = _judged(held, known, prepared, seen_held, decisions)
    return {
        "patients_known": bool(rows["patient"].notna().all()),
        "held_out": score.held_out(rows, config, seen_held, decisions, _group(held)),
        "test": known and score.test(tested, config, prepared, known, decisions),
        "calibration": figures.calibration(rows, config.config.calibration),
        **_evidence(paths, prepared, pd.concat([rows, tested]), config),
    }


def _evidence(paths: Paths, prepared: Prepared, rows: pd.DataFrame, config: UnitConfig) -> dict:
    """Write cases.parquet, scores.parquet, panel.json and leaks.json; what the table prints of them."""
    cases.write(paths.stage3, rows, combine.members(config))
    print(f"stage 3: metrics of {len(rows):,} images with their intervals")
    whole, leaks = panel(rows, prevalence=config.config.prevalence), leakage.audited(prepared, config.trained)
    write_json(paths.stage3 / "panel.json", whole)
    write_json(paths.stage3 / "leaks.json", leaks)
    return {"panel": figures.headline(whole), "leaks": leaks}


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
    held: pd.DataFrame, others: pd.DataFrame, paths: Paths, prepared: Prepared,
    config: UnitConfig, mean: tuple[Seen, Seen] | None,
) -> dict | None:  # fmt: skip
    """The mean map's figures, where the mask stacker is in use; its decision is chosen anew."""
    if mean is None or config.config.masks == "mean":
        return None
    held, decisions = _decided(held, mean[0], config)
    known = score.known_test(predict.tests(prepared, others), mean[1], paths, prepared)
    return score.plain_mean(*_judged(held, known, prepared, mean[0], decisions))


def _described(config: UnitConfig, used: str, beside: columns.Columns, decisions: Decisions) -> dict:
    seen = [name for name in config.config.lightgbm.columns if name == "pca" or name in beside]
    return {
        "stacker": {"asked": config.config.stacker, "used": used, "lightgbm_columns": seen},
        "masks": config.config.masks if config.segmenters else None,
        "nested_by": decisions.by,
        "decision": decisions.test._asdict(),
        "zone": decisions.test_zone and decisions.test_zone._asdict(),
    }


if __name__ == "__main__":
    run_main(main)
