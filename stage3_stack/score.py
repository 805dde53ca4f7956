"""Scores of the final masks and probabilities: on held-out images, and on the test where its truth is known."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.paths import Paths
from cxr.prepared import Prepared
from stage3_stack import cases, figures, zone
from stage3_stack.combine import members
from stage3_stack.config import UnitConfig, test_truth
from stage3_stack.decide import Decisions
from stage3_stack.masks import Seen
from stage3_stack.submit import read_truth
from stage3_stack.thresholds import PLAIN, Counts, level
from stage3_stack.zone import Zone


def held_out(
    rows: pd.DataFrame, unit: UnitConfig, seen: Seen | None, decisions: Decisions, group: np.ndarray
) -> dict:
    """Figures of the held-out images (`cases.held_out`), each under the decision of its own group."""
    zones = decisions.zones and [decisions.zones[int(key)] for key in group]
    return _figures(rows, unit, zones) | (figures.segmentation(rows, _plain(seen.counts)) if seen else {})


def _figures(rows: pd.DataFrame, unit: UnitConfig, zones: list[Zone] | None) -> dict:
    found = figures.described(rows["label"]) | figures.classification(rows, members(unit))
    return found if zones is None else found | {"zone": _zone(rows, zones)}


def _zone(rows: pd.DataFrame, zones: list[Zone]) -> dict:
    lows, highs = np.array(zones).reshape(-1, 2).T
    return zone.judge(rows["label"].to_numpy(), rows["prob"].to_numpy(), lows, highs)


def _plain(counts: Counts) -> pd.DataFrame:
    """What one gets without choosing."""
    at = level(PLAIN.bottom)
    return pd.DataFrame({"truth": counts.truth, "found": counts.above[:, at], "overlap": counts.overlap[:, at]})


class Known(NamedTuple):
    """The test images whose truth the data has."""

    table: pd.DataFrame
    seen: Seen | None
    """Their maps; None without segmenters"""
    truth: dict[str, str]
    """RLE by image_id"""


def known_test(table: pd.DataFrame, seen: Seen | None, paths: Paths, prepared: Prepared) -> Known | None:
    """Of all test images [n], indexed by image_id, those whose truth is known; None where the data has none."""
    path = test_truth(paths.data)
    truth = {} if path is None else read_truth(path, sizes(prepared, table.index.tolist()))
    rows = table.index.isin(list(truth))
    return Known(table[rows], seen and seen[rows], truth) if truth else None


def test(
    rows: pd.DataFrame, unit: UnitConfig, prepared: Prepared, known: Known, decisions: Decisions
) -> dict:
    """Figures of the test images whose truth is known (`cases.test`), under the test's decision."""
    found = _figures(rows, unit, decisions.test_zone and [decisions.test_zone] * len(rows))
    if known.seen is None:
        return found
    anything = known.seen.counts.above[:, level(PLAIN.bottom)] > 0  # test images' maps are counted without a truth
    plain = cases.masks(known.seen.images, anything, [PLAIN.cut] * len(rows), prepared, known.truth)
    return found | figures.segmentation(rows, plain)


def plain_mean(held: pd.DataFrame, tested: pd.DataFrame | None) -> dict:
    """What the members' mean map scores, under a decision of its own, beside the mask stacker in use."""
    return {"held_out": _dices(held), "test": None if tested is None else _dices(tested)}


def _dices(rows: pd.DataFrame) -> dict:
    found = figures.segmentation(rows, rows)
    return {name: found[name] for name in ("kaggle_dice", "positives_dice")}


def sizes(prepared: Prepared, image_ids: list[str]) -> dict[str, tuple[int, int]]:
    """(height, width) of the originals by image_id."""
    rows = prepared.manifest.loc[image_ids]
    return dict(zip(image_ids, zip(rows["height"].tolist(), rows["width"].tolist(), strict=True), strict=True))
