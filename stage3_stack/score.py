"""Scores of the final masks and probabilities: on held-out images, and on the test where its truth is known."""

import numpy as np
import pandas as pd

from cxr import rle
from cxr.paths import Paths
from cxr.prepared import Prepared
from stage3_stack import figures
from stage3_stack.combine import scored_by
from stage3_stack.config import UnitConfig, test_truth
from stage3_stack.decide import Decisions
from stage3_stack.masks import Areas, Images, measure
from stage3_stack.submit import read_truth
from stage3_stack.thresholds import PLAIN, Counts, Decision, drawn, level


def held_out(
    table: pd.DataFrame, unit: UnitConfig, used: str | None, prepared: Prepared,
    images: Images | None, counts: Counts | None, decisions: Decisions, group: np.ndarray,
) -> dict:  # fmt: skip
    """Figures of the held-out images, each under the decision of its own group.

    table: indexed by image_id, with label, fold, share, positive, prob and the columns of the stacks.
    """
    found = figures.described(table["label"])
    if used:
        heads = table.assign(head=scored_by(table))
        found |= figures.classification(heads, unit.members, used, table["positive"].to_numpy())
    if counts is not None:
        keep, prob = np.zeros(len(table), bool), table["prob"].to_numpy()
        for key, decision in decisions.groups.items():
            keep[group == key] = drawn(decision, counts[group == key], prob[group == key])
        bottoms = np.array([decisions.groups[int(key)].bottom for key in group])
        truth = prepared.manifest.loc[table.index, "rle"].to_dict()
        found |= _segmentation(table, prepared, images, counts, keep, bottoms, truth)
    return found


def test(
    table: pd.DataFrame, paths: Paths, unit: UnitConfig, used: str | None, prepared: Prepared,
    images: Images | None, counts: Counts | None, decision: Decision,
) -> dict | None:  # fmt: skip
    """Figures of the test images under the decision of decision.json; None where their truth is not known.

    table: indexed by image_id, with prob and the columns of the stacks.
    """
    path = test_truth(paths.data)
    if path is None:
        return None
    truth = read_truth(path, sizes(prepared, table.index.tolist()))
    known = table.index.isin(list(truth))
    table = table[known]
    areas = np.array([_area(truth[image_id]) for image_id in table.index])
    table = table.assign(fold=0, head=0, label=(areas > 0).astype(float), share=areas / _pixels(prepared, table.index))
    found = figures.described(table["label"])
    prob = table["prob"].to_numpy()
    if used:
        found |= figures.classification(table, unit.members, used, prob >= decision.gate)
    if counts is not None:
        counts, maps = counts[known], [m for m, chosen in zip(images.maps, known, strict=True) if chosen]
        bottoms = np.full(len(table), decision.bottom)
        keep = drawn(decision, counts, prob)
        found |= _segmentation(table, prepared, Images(table.index.tolist(), maps), counts, keep, bottoms, truth)
    return found


def _segmentation(
    table: pd.DataFrame, prepared: Prepared, images: Images, counts: Counts,
    keep: np.ndarray, bottoms: np.ndarray, truth: dict[str, str],
) -> dict:  # fmt: skip
    final = measure(images, keep, bottoms, prepared, truth)
    return figures.segmentation(final, _plain(images, counts, prepared, truth), table["share"].to_numpy())


def _plain(images: Images, counts: Counts, prepared: Prepared, truth: dict[str, str]) -> Areas:
    """What one gets without choosing; images without a pixel above .5 need not be enlarged."""
    anything = counts.above[:, level(PLAIN.bottom)] > 0
    return measure(images, anything, np.full(len(images.ids), PLAIN.bottom), prepared, truth)


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
