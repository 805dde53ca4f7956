"""Scores of the final masks and probabilities: on held-out images, and on the test where its truth is known."""

import numpy as np
import pandas as pd

from cxr import rle
from cxr.paths import Paths
from cxr.prepared import Prepared
from stage3_stack import figures, zone
from stage3_stack.combine import members, scored_by
from stage3_stack.config import UnitConfig, test_truth
from stage3_stack.decide import Decisions
from stage3_stack.masks import Areas, Images, Seen, measure
from stage3_stack.submit import read_truth
from stage3_stack.thresholds import PLAIN, Counts, Cut, drawn, level, passes
from stage3_stack.zone import Zone


def held_out(
    table: pd.DataFrame, unit: UnitConfig, used: str, prepared: Prepared,
    seen: Seen | None, decisions: Decisions, group: np.ndarray,
) -> dict:  # fmt: skip
    """Figures of the held-out images, each under the decision of its own group.

    table: indexed by image_id, with label, fold, share, positive, prob and the columns of the stacks; seen: the
    same images in the same order, None without segmenters.
    """
    found = figures.described(table["label"])
    heads = table.assign(head=scored_by(table))
    found |= figures.classification(heads, members(unit), used, table["positive"].to_numpy())
    if decisions.zones is not None:
        found |= {"zone": _zone(table, [decisions.zones[int(key)] for key in group])}
    return found if seen is None else found | held_out_masks(table, prepared, seen, decisions, group)


def held_out_masks(
    table: pd.DataFrame, prepared: Prepared, seen: Seen, decisions: Decisions, group: np.ndarray
) -> dict:
    """Dice of the held-out images' masks, each under the decision of its own group."""
    keep, prob = np.zeros(len(table), bool), table["prob"].to_numpy()
    for key, decision in decisions.groups.items():
        keep[group == key] = drawn(decision, seen.counts[group == key], prob[group == key])
    cuts = [decision.cut for decision in decisions.of(group)]
    truth = prepared.manifest.loc[table.index, "rle"].to_dict()
    return _segmentation(table, prepared, seen, keep, cuts, truth)


def test(
    table: pd.DataFrame, paths: Paths, unit: UnitConfig, used: str, prepared: Prepared,
    seen: Seen | None, decisions: Decisions,
) -> dict | None:  # fmt: skip
    """Figures of the test images under the test's decision; None where their truth is not known.

    table: indexed by image_id, with prob and the columns of the stacks; seen: as for `held_out`.
    """
    truth = known_test(paths, prepared, table)
    if truth is None:
        return None
    known = table.index.isin(list(truth))
    table, seen = _with_truth(table[known], prepared, truth), seen and seen[known]
    counts, prob = seen and seen.counts, table["prob"].to_numpy()
    found = figures.described(table["label"])
    found |= figures.classification(table, members(unit), used, passes(decisions.test, counts, prob))
    if decisions.test_zone is not None:
        found |= {"zone": _zone(table, [decisions.test_zone] * len(table))}
    return found if seen is None else found | test_masks(table, prepared, seen, decisions, truth)


def known_test(paths: Paths, prepared: Prepared, table: pd.DataFrame) -> dict[str, str] | None:
    """RLE of the test images' own masks by image_id, None where the data has none."""
    path = test_truth(paths.data)
    return None if path is None else read_truth(path, sizes(prepared, table.index.tolist()))


def _with_truth(table: pd.DataFrame, prepared: Prepared, truth: dict[str, str]) -> pd.DataFrame:
    areas = np.array([_area(truth[image_id]) for image_id in table.index])
    return table.assign(fold=0, head=0, label=(areas > 0).astype(float), share=areas / _pixels(prepared, table.index))


def test_masks(
    table: pd.DataFrame, prepared: Prepared, seen: Seen, decisions: Decisions, truth: dict[str, str]
) -> dict:
    """Dice of the test images' masks, under the test's decision."""
    keep = drawn(decisions.test, seen.counts, table["prob"].to_numpy())
    return _segmentation(table, prepared, seen, keep, [decisions.test.cut] * len(table), truth)


def plain_mean(
    held: pd.DataFrame, tested: pd.DataFrame, paths: Paths, prepared: Prepared,
    seen: tuple[Seen, Seen], decisions: Decisions, group: np.ndarray,
) -> dict:  # fmt: skip
    """What the members' mean map scores, under a decision of its own, beside the mask stacker in use."""
    truth = known_test(paths, prepared, tested)
    found = {"held_out": held_out_masks(held, prepared, seen[0], decisions, group), "test": None}
    if truth is not None:
        known = tested.index.isin(list(truth))
        found["test"] = test_masks(
            _with_truth(tested[known], prepared, truth), prepared, seen[1][known], decisions, truth
        )
    names = ("kaggle_dice", "positives_dice")
    return {part: column and {name: column[name] for name in names} for part, column in found.items()}


def _zone(table: pd.DataFrame, zones: list[Zone]) -> dict:
    lows, highs = np.array(zones).reshape(-1, 2).T
    return zone.judge(table["label"].to_numpy(), table["prob"].to_numpy(), lows, highs)


def _segmentation(
    table: pd.DataFrame, prepared: Prepared, seen: Seen, keep: np.ndarray, cuts: list[Cut], truth: dict[str, str]
) -> dict:
    final = measure(seen.images, keep, cuts, prepared, truth)
    plain = _plain(seen.images, seen.counts, prepared, truth)
    return figures.segmentation(final, plain, table["share"].to_numpy())


def _plain(images: Images, counts: Counts, prepared: Prepared, truth: dict[str, str]) -> Areas:
    """What one gets without choosing; images without a pixel above .5 need not be enlarged."""
    anything = counts.above[:, level(PLAIN.bottom)] > 0
    return measure(images, anything, [PLAIN.cut] * len(images.ids), prepared, truth)


def share(prepared: Prepared, index: pd.Index) -> np.ndarray:
    """Share of each image that is lesion, [n]."""
    return prepared.manifest.loc[index, "mask_area"].to_numpy() / _pixels(prepared, index)


def sizes(prepared: Prepared, image_ids: list[str]) -> dict[str, tuple[int, int]]:
    """(height, width) of the originals by image_id."""
    rows = prepared.manifest.loc[image_ids]
    return dict(zip(image_ids, zip(rows["height"].tolist(), rows["width"].tolist(), strict=True), strict=True))


def _pixels(prepared: Prepared, index: pd.Index) -> np.ndarray:
    rows = prepared.manifest.loc[index]
    return (rows["height"] * rows["width"]).to_numpy()


def _area(code: str) -> int:
    return int(np.diff(rle.runs(code), axis=1).sum())
