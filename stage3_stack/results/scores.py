"""Scores of the final masks and probabilities: on held-out images, and on the test where its truth is known."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.datasets.prepared import Prepared
from cxr.paths import Paths
from stage3_stack.config import UnitConfig, test_truth_path
from stage3_stack.postprocessing import inconclusive_zone
from stage3_stack.postprocessing.final_masks import MapSet
from stage3_stack.postprocessing.inconclusive_zone import Zone
from stage3_stack.postprocessing.nested_choice import NestedPostprocessing
from stage3_stack.postprocessing.submission import read_truth
from stage3_stack.postprocessing.thresholds import PLAIN_PARAMS, LevelHistograms, score_to_level
from stage3_stack.results import cases, figures
from stage3_stack.stacking.out_of_fold import list_members


def score_held_out(
    rows: pd.DataFrame,
    unit: UnitConfig,
    map_set: MapSet | None,
    postprocessing: NestedPostprocessing,
    group: np.ndarray,
) -> dict:
    """Figures of the held-out images (`cases.evaluate_held_out`), each under the decision of its own group."""
    zones = postprocessing.group_zones and [postprocessing.group_zones[int(key)] for key in group]
    return _score_probabilities(rows, unit, zones) | (
        figures.score_segmentation(rows, _plain_mask_areas(map_set.histograms)) if map_set else {}
    )


def _score_probabilities(rows: pd.DataFrame, unit: UnitConfig, zones: list[Zone] | None) -> dict:
    scores = figures.count_images(rows["label"]) | figures.score_classification(rows, list_members(unit))
    return scores if zones is None else scores | {"zone": _score_zone(rows, zones)}


def _score_zone(rows: pd.DataFrame, zones: list[Zone]) -> dict:
    lows, highs = np.array(zones).reshape(-1, 2).T
    return inconclusive_zone.score_zones(rows["label"].to_numpy(), rows["prob"].to_numpy(), lows, highs)


def _plain_mask_areas(histograms: LevelHistograms) -> pd.DataFrame:
    """What one gets without choosing."""
    plain_level = score_to_level(PLAIN_PARAMS.bottom_score_threshold)
    return pd.DataFrame(
        {
            "truth": histograms.truth_area,
            "found": histograms.area_above[:, plain_level],
            "overlap": histograms.overlap_above[:, plain_level],
        }
    )


class LabelledTest(NamedTuple):
    """The test images whose truth the data has."""

    table: pd.DataFrame
    map_set: MapSet | None
    """Their maps; None without segmenters"""
    truth_rle: dict[str, str]
    """RLE by image_id"""


def select_labelled_test(
    table: pd.DataFrame, map_set: MapSet | None, paths: Paths, prepared: Prepared
) -> LabelledTest | None:
    """Of all test images [n], indexed by image_id, those whose truth is known; None where the data has none."""
    path = test_truth_path(paths.data_folder)
    truth_rle = {} if path is None else read_truth(path, image_sizes(prepared, table.index.tolist()))
    is_labelled = table.index.isin(list(truth_rle))
    return LabelledTest(table[is_labelled], map_set and map_set[is_labelled], truth_rle) if truth_rle else None


def score_test(
    rows: pd.DataFrame,
    unit: UnitConfig,
    prepared: Prepared,
    labelled_test: LabelledTest,
    postprocessing: NestedPostprocessing,
) -> dict:
    """Figures of the test images whose truth is known (`cases.evaluate_test`), under the test's decision."""
    scores = _score_probabilities(rows, unit, postprocessing.test_zone and [postprocessing.test_zone] * len(rows))
    if labelled_test.map_set is None:
        return scores
    has_pixels = (
        labelled_test.map_set.histograms.area_above[:, score_to_level(PLAIN_PARAMS.bottom_score_threshold)] > 0
    )  # test images' maps are counted without a truth
    plain_areas = cases.evaluate_masks(
        labelled_test.map_set.images,
        has_pixels,
        [PLAIN_PARAMS.mask_rule] * len(rows),
        prepared,
        labelled_test.truth_rle,
    )
    return scores | figures.score_segmentation(rows, plain_areas)


def score_plain_mean(held_out_rows: pd.DataFrame, test_rows: pd.DataFrame | None) -> dict:
    """What the members' mean map scores, under a decision of its own, beside the mask stacker in use."""
    return {
        "held_out": _mean_dice_scores(held_out_rows),
        "test": None if test_rows is None else _mean_dice_scores(test_rows),
    }


def _mean_dice_scores(rows: pd.DataFrame) -> dict:
    scores = figures.score_segmentation(rows, rows)
    return {name: scores[name] for name in ("kaggle_dice", "positives_dice")}


def image_sizes(prepared: Prepared, image_ids: list[str]) -> dict[str, tuple[int, int]]:
    """(height, width) of the originals by image_id."""
    rows = prepared.manifest.loc[image_ids]
    return dict(zip(image_ids, zip(rows["height"].tolist(), rows["width"].tolist(), strict=True), strict=True))
