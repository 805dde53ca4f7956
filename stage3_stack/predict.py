"""Stage 3 without training: the saved heads and decision.json (which may be edited) give a new submission."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr import recipe, tables
from cxr.errors import UsageError, run_main
from cxr.files import replacing
from cxr.paths import Paths
from cxr.prepared import Prepared
from stage3_stack import decide, score, submit
from stage3_stack.config import STEP, UnitConfig, read, unit
from stage3_stack.data import read_fold
from stage3_stack.maps import read_maps
from stage3_stack.masks import Images, codes, count
from stage3_stack.stack import FoldStack, Head, load, predict_new, save
from stage3_stack.thresholds import Counts, Decision, drawn


def main() -> None:
    """Command: the submission of the chosen recipe, by the heads and the decision as they lie there."""
    chosen, paths = recipe.chosen()
    config = unit(chosen, paths, read(chosen)).config
    prepared = Prepared(paths.prepared, config.folds)
    decision = decide.read_test(paths.stage3 / "decision.json")
    others = predicted(paths, prepared, config)
    if config.members:
        path = paths.stage3 / "stacked.parquet"
        stacked = tables.read(path, tables.STACKED, STEP).set_index("image_id")
        write_stacked(paths, stacked[stacked["split"] == "train"], others, decision)
    submission(paths, prepared, config, others, decision)


def predicted(paths: Paths, prepared: Prepared, config: UnitConfig) -> pd.DataFrame:
    """split and prob, by image_id, of the images without a label: mean over folds of the saved heads'."""
    if not config.members:
        others = prepared.manifest.loc[prepared.manifest["split"] != "train", ["split"]]
        return others.assign(prob=1.0)
    kind, heads = read_heads(paths.stage3 / "heads.npz")
    tables_ = []
    for fold in config.trained:
        rows = read_fold(paths, prepared, config.members, fold)
        new = ~rows.held_out
        prob = predict_new(rows, heads[fold], kind, new)
        tables_.append(pd.DataFrame({"split": rows.split[new], "prob": prob}, index=rows.image_ids[new]))
    groups = pd.concat(tables_).groupby(level=0)
    return pd.DataFrame({"split": groups["split"].first(), "prob": groups["prob"].mean()})


def write_heads(path: Path, stacks: dict[int, FoldStack], kind: str) -> None:
    """Keep the heads of the stacker in use: arrays only, so that NumPy alone applies a dense head."""
    with replacing(path) as temporary:
        np.savez(temporary, kind=np.array(kind), **save(stacks, kind))


def read_heads(path: Path) -> tuple[str, dict[int, dict[int, Head]]]:
    """The stacker in use, and its heads by fold and subfold."""
    if not path.is_file():
        raise UsageError(f"{path} is missing; it is made by: {STEP}")
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    kind = str(arrays.pop("kind"))
    return kind, load(arrays, kind)


def write_stacked(paths: Paths, held: pd.DataFrame, others: pd.DataFrame, decision: Decision) -> None:
    """Write stacked.parquet: held-out rows as they were judged, all others by the test's gate."""
    table = pd.concat([held, others.assign(positive=others["prob"] >= decision.gate)])
    table = table.rename_axis("image_id").reset_index()
    tables.write(table, paths.stage3 / "stacked.parquet", tables.STACKED)


def submission(
    paths: Paths, prepared: Prepared, config: UnitConfig, others: pd.DataFrame, decision: Decision
) -> tuple[Images | None, Counts | None]:
    """Write submission.csv and say what is in it; returns the test images and what their maps hold."""
    if not config.segmenters:
        print("stage 3: the recipe has no segmenters, so there are no masks to submit")
        return None, None
    test = others[others["split"] == "test"]
    maps = read_maps(paths, config.segmenters, None, test.index.tolist())
    images = Images(test.index.tolist(), [maps] * len(test))
    counts = count(images, lambda _image_id: None)
    keep = drawn(decision, counts, test["prob"].to_numpy())
    sample = submit.read_sample(paths.data, images.ids)
    masks = codes(images, keep, decision.bottom, prepared)
    unread = submit.write(paths.submission, sample, masks, score.sizes(prepared, images.ids))
    _tell(paths.submission, sample, masks, unread)
    return images, counts


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
