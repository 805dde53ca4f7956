"""Scores of the final masks and probabilities: on held-out images, and on the test where its truth is known."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.datasets.prepared import Prepared
from evaluation import leakage
from evaluation.panel import compute_panel
from stage3_stack.config.stage import Stage
from stage3_stack.postprocessing import inconclusive_zone
from stage3_stack.postprocessing.inconclusive_zone import Zone
from stage3_stack.postprocessing.predictions import Predictions
from stage3_stack.postprocessing.thresholds import PLAIN_PARAMS, LevelHistograms, score_to_level
from stage3_stack.results import cases, figures
from stage3_stack.results.cases import LabelledTest


@dataclass(frozen=True)
class RunScores:
    """All that is scored of a run."""

    cases: pd.DataFrame
    """Held-out images, and labelled test images: columns of tables.CASES, members, stackers, uncalibrated"""
    held_out: dict
    """Scores of the held-out images"""
    test: dict | None
    """Scores of the labelled test images; None if there are none"""
    calibration: dict
    """Scores before and after calibration (`figures.score_calibration`)"""
    panel: dict
    """All metrics with their intervals (`evaluation.panel`)"""
    leakage: dict
    """Held-out images whose patient, or a near-duplicate, is in training, too (`evaluation.leakage`)"""
    plain_mean: dict | None = None
    """With the mask stacker the scores of the segmenters' mean map (`score_plain_mean`)"""


def score_predictions(stage: Stage, predictions: Predictions, chest_tubes: pd.Series | None) -> RunScores:
    """Score the held-out images, each under the thresholds of its own group, and the labelled test images.

    chest_tubes: 1 or 0 by image_id, a subgroup of the panel; None if not known.
    """
    labelled_test = cases.select_labelled_test(stage, predictions)
    held_out_rows, test_rows = _evaluate_cases(stage.prepared, predictions, labelled_test)
    rows = cases.add_chest_tubes(pd.concat([held_out_rows, test_rows]), chest_tubes)
    held_out_scores = score_held_out(stage, held_out_rows, predictions)
    test_scores = labelled_test and score_test(stage, test_rows, labelled_test, predictions.postprocessing.test_zone)
    calibration = figures.score_calibration(held_out_rows, stage.settings.calibration)
    print(f"stage 3: metrics of {len(rows):,} images with their intervals")
    panel = compute_panel(rows, prevalence=stage.settings.prevalence)
    audit = leakage.audit_leakage(stage.prepared, stage.unit.trained)
    return RunScores(rows, held_out_scores, test_scores, calibration, panel, audit)


def _evaluate_cases(
    prepared: Prepared, predictions: Predictions, labelled_test: LabelledTest | None
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The rows of tables.CASES of held-out and of labelled test images."""
    held_out_rows = cases.evaluate_held_out(prepared, predictions)
    if labelled_test is None:
        return held_out_rows, None
    return held_out_rows, cases.evaluate_test(prepared, labelled_test, predictions.postprocessing)


def score_held_out(stage: Stage, rows: pd.DataFrame, predictions: Predictions) -> dict:
    """Scores of the held-out images (`cases.evaluate_held_out`), each under the thresholds of its own group.

    Returns the keys of `figures.score_classification`, images, positives; zone, if the settings have one; and with
    segmenters the keys of `figures.score_segmentation`.
    """
    zones = predictions.postprocessing.group_zones
    if zones is not None:
        zones = [zones[int(key)] for key in predictions.postprocessing.groups_of(rows)]
    scores = _score_probabilities(stage, rows, zones)
    if predictions.maps.held_out is None:
        return scores
    return scores | figures.score_segmentation(rows, _plain_mask_areas(predictions.maps.held_out.histograms))


def _score_probabilities(stage: Stage, rows: pd.DataFrame, zones: list[Zone] | None) -> dict:
    scores = figures.count_images(rows["label"]) | figures.score_classification(rows, stage.member_names)
    return scores if zones is None else scores | {"zone": _score_zone(rows, zones)}


def _score_zone(rows: pd.DataFrame, zones: list[Zone]) -> dict:
    lows, highs = np.array(zones).reshape(-1, 2).T
    return inconclusive_zone.score_zones(rows["label"].to_numpy(), rows["prob"].to_numpy(), lows, highs)


def _plain_mask_areas(histograms: LevelHistograms) -> pd.DataFrame:
    """truth, found and overlap of the masks without any choice (PLAIN_PARAMS)."""
    mask_areas, overlap = histograms.mask_areas(PLAIN_PARAMS.mask_rule)
    return pd.DataFrame({"truth": histograms.truth_area, "found": mask_areas, "overlap": overlap})


def score_test(stage: Stage, rows: pd.DataFrame, labelled_test: LabelledTest, test_zone: Zone | None) -> dict:
    """Scores of the labelled test images under the test's thresholds.

    stage: the run
    rows: of `cases.evaluate_test`
    labelled_test: the same images with their maps and truth
    test_zone: the inconclusive zone, if the settings have one

    Returns the keys of `score_held_out`.
    """
    scores, map_set = _score_probabilities(stage, rows, test_zone and [test_zone] * len(rows)), labelled_test.map_set
    if map_set is None:
        return scores
    plain_level = score_to_level(PLAIN_PARAMS.bottom_score_threshold)
    has_pixels = map_set.histograms.area_above[:, plain_level] > 0  # these histograms were counted without a truth
    plain_rules = [PLAIN_PARAMS.mask_rule] * len(rows)
    plain_areas = cases.evaluate_masks(map_set.images, has_pixels, plain_rules, stage.prepared, labelled_test.truth_rle)
    return scores | figures.score_segmentation(rows, plain_areas)


def score_plain_mean(stage: Stage, predictions: Predictions) -> dict:
    """kaggle_dice and positives_dice by held_out and test (None without truth), under predictions by the mean maps."""
    labelled_test = cases.select_labelled_test(stage, predictions)
    held_out_rows, test_rows = _evaluate_cases(stage.prepared, predictions, labelled_test)
    return {
        "held_out": _mean_dice_scores(held_out_rows),
        "test": None if test_rows is None else _mean_dice_scores(test_rows),
    }


def _mean_dice_scores(rows: pd.DataFrame) -> dict:
    scores = figures.score_segmentation(rows, rows)
    return {name: scores[name] for name in ("kaggle_dice", "positives_dice")}
