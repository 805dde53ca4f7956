"""Stage 3 without training: the saved heads and decision.json (which may be edited) give a new submission."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr import recipe, runs, tables
from cxr.errors import UsageError, run_main
from cxr.files import replacing
from cxr.paths import Paths
from cxr.prepared import Prepared
from stage3_stack import calibrate, columns, decide, score, submit
from stage3_stack.config import STEP, UnitConfig, read, unit
from stage3_stack.data import STAGE1, read_fold
from stage3_stack.masks import Seen, codes, see_test
from stage3_stack.stack import FoldStack, Head, load, predict_new, save
from stage3_stack.thresholds import Decision, cuts, drawn, passes


def main() -> None:
    """Command: the submission of the chosen recipe, by the heads and the decision as they lie there."""
    chosen, paths = recipe.chosen()
    work = unit(chosen, paths, read(chosen))
    if not paths.stage3.is_dir():
        raise UsageError(f"{paths.stage3} is missing; it is made by: {STEP}")
    with runs.locked(paths.stage3), runs.damage_named((*work.inputs, *work.outputs)):
        predict(paths, work.config)
        runs.renew_outputs(paths.stage3, (paths.stage3 / "stacked.parquet", paths.submission))


def predict(paths: Paths, config: UnitConfig) -> None:
    """Write stacked.parquet and submission.csv anew; raises UsageError where what they are made from is not there."""
    prepared = Prepared(paths.prepared, paths.folds)
    decision = decide.read_test(paths.stage3 / "decision.json")
    mean, final = _seen(paths, prepared, config, decision)
    beside = columns.gather(paths, prepared, config.config.lightgbm.columns, [mean] if mean else [])
    others = predicted(paths, prepared, config, beside)
    stacked = tables.read(paths.stage3 / "stacked.parquet", tables.STACKED, STEP).set_index("image_id")
    write_stacked(paths, stacked[stacked["split"] == "train"], others, decision, final)
    submission(paths, prepared, tests(prepared, others), final, decision)


def _seen(paths: Paths, prepared: Prepared, config: UnitConfig, decision: Decision) -> tuple[Seen | None, Seen | None]:
    """The test images with the members' mean maps, and with those that the masks come from."""
    if not config.segmenters:
        return None, None
    mean = see_test(paths, prepared, config, "mean", cuts(decision))
    stacked = config.config.masks == "stacker"
    return mean, see_test(paths, prepared, config, "stacker", cuts(decision)) if stacked else mean


def predicted(paths: Paths, prepared: Prepared, config: UnitConfig, beside: columns.Columns) -> pd.DataFrame:
    """split and prob, by image_id, of the images without a label: mean over folds of the saved heads'."""
    kind, heads = read_heads(paths.stage3)
    tables_ = []
    for fold in config.trained:
        rows = read_fold(paths, prepared, config.members, fold, beside)
        new = ~rows.held_out
        prob = predict_new(rows, heads[fold], kind, new)
        tables_.append(pd.DataFrame({"split": rows.split[new], "prob": prob}, index=rows.image_ids[new]))
    groups = pd.concat(tables_).groupby(level=0)
    return pd.DataFrame({"split": groups["split"].first(), "prob": groups["prob"].mean()})


def tests(prepared: Prepared, others: pd.DataFrame) -> pd.DataFrame:
    """The test images, in the manifest's order; UsageError where one has no probability."""
    ids = prepared.ids("test")
    missing = [image_id for image_id in ids if image_id not in others.index]
    if missing:
        raise UsageError(f"test image {missing[0]} and {len(missing) - 1} more are not predicted; run {STAGE1} again")
    return others.loc[ids]


def write_heads(path: Path, stacks: dict[int, FoldStack], kind: str) -> None:
    """Keep the heads of the stacker in use: arrays only, so that NumPy alone applies a dense head."""
    with replacing(path) as temporary:
        np.savez(temporary, kind=np.array(kind), **save(stacks, kind))


def read_heads(folder: Path) -> tuple[str, dict[int, dict[int, Head]]]:
    """The stacker in use, and its heads by fold and subfold, with the calibrations of decision.json.

    Raises UsageError where a file is missing, or a head's calibration.
    """
    path, decision = folder / "heads.npz", folder / "decision.json"
    scaled = calibrate.read(decision)
    if not path.is_file():
        raise UsageError(f"{path} is missing; it is made by: {STEP}")
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    kind = str(arrays.pop("kind"))
    try:
        return kind, load(arrays, kind, scaled)
    except KeyError as head:
        raise UsageError(f"{decision}: 'calibration' lacks head {head}; FORCE=1 makes it anew: {STEP}") from None


def write_stacked(
    paths: Paths, held: pd.DataFrame, others: pd.DataFrame, decision: Decision, seen: Seen | None
) -> None:
    """Write stacked.parquet: held-out rows as they were judged, all others by the test's gates.

    seen: the test images with their maps, for the gate on label heads; an image without maps has but one gate.
    """
    positive = others["prob"].to_numpy() >= decision.gate
    if seen is not None:
        known = others.index.get_indexer(seen.images.ids)
        positive[known] = passes(decision, seen.counts, others["prob"].to_numpy()[known])
    table = pd.concat([held, others.assign(positive=positive)])
    table = table.rename_axis("image_id").reset_index()
    tables.write(table, paths.stage3 / "stacked.parquet", tables.STACKED)


def submission(paths: Paths, prepared: Prepared, test: pd.DataFrame, seen: Seen | None, decision: Decision) -> None:
    """Write submission.csv of the test images [n] and say what is in it."""
    if seen is None:
        print("stage 3: the recipe has no segmenters, so there are no masks to submit")
        return
    keep = drawn(decision, seen.counts, test["prob"].to_numpy())
    sample = submit.read_sample(paths.prepared, seen.images.ids)
    masks = codes(seen.images, keep, decision, prepared)
    unread = submit.write(paths.submission, sample, masks, score.sizes(prepared, seen.images.ids))
    _tell(paths.submission, sample, masks, unread)


def _tell(path: Path, sample: submit.Sample, masks: dict[str, str], unread: list[str]) -> None:
    asked = [image_id for image_id in sample.ids if image_id in masks]
    filled = sum(masks[image_id] != "-1" for image_id in asked)
    print(f"{path}: {len(sample.ids)} images, {filled} with a mask")
    if unread:
        shown = ", ".join(unread[:5]) + (f" and {len(unread) - 5} more" if len(unread) > 5 else "")
        print(f"no readable image, so left empty: {shown}")
    if len(asked) < len(masks):
        print(f"{len(masks) - len(asked)} test images are not in the sample submission, so left out")


if __name__ == "__main__":
    run_main(main)
