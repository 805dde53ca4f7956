"""All of stage 3: stack the classifiers, choose the thresholds, write the submission, score."""

import sys
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from cxr import config, recipe
from cxr.errors import run_main
from cxr.step import run_step
from stage3_stack.config import build_stack_step, read_stack_settings
from stage3_stack.config.stage import Stage
from stage3_stack.postprocessing.decision_file import write_decision
from stage3_stack.postprocessing.map_sets import MapSets, load_map_sets
from stage3_stack.postprocessing.predictions import Predictions, choose_thresholds, select_test_rows
from stage3_stack.postprocessing.stacked_table import write_stacked_table
from stage3_stack.postprocessing.submission import write_test_submission
from stage3_stack.results.cases import read_chest_tubes
from stage3_stack.results.run_report import report_run
from stage3_stack.results.scores import RunScores, score_plain_mean, score_predictions
from stage3_stack.stacking.calibration import calibration_record
from stage3_stack.stacking.out_of_fold import train_fold_stacks
from stage3_stack.stacking.saved_heads import collect_calibrations, write_heads
from stage3_stack.stacking.stacker_choice import StackedImages, apply_used_stacker
from stage3_stack.stacking.tabular_features import Columns, gather_columns


def main() -> None:
    """Command: stage 3 of the chosen recipe; --key value overrides a setting."""
    chosen_recipe, paths = recipe.load_recipe_and_paths()
    settings = config.override_settings(
        read_stack_settings(chosen_recipe), sys.argv[1:], "python -m stage3_stack.train"
    )
    step = build_stack_step(chosen_recipe, paths, settings)
    run_step(step, lambda _identity, metrics: metrics.update(run_stage3(Stage(paths, step.settings))))


def run_stage3(stage: Stage) -> dict:
    """Make all files of stage 3 but its run.json, in order: stack, choose, submit, score, report.

    Returns the metrics for run.json: which stacker and thresholds are in use (stacker, masks, nested_by, decision,
    zone, search, operating_point), the scores of held_out and test images (None if the test's truth is not known),
    calibration, panel and leaks, and plain_mean (with the mask stacker the scores of the segmenters' mean map). Raises
    UsageError or DataError, which names the file, if an input is missing or damaged.
    """
    inputs = load_inputs(stage)
    stacked = stack_classifiers(stage, inputs)
    predictions = choose_thresholds(stage, stacked.held_out, stacked.new_rows, inputs.maps)
    write_submission_files(stage, stacked, predictions)
    scores = score_images(stage, inputs, stacked, predictions)
    return report_run(stage, inputs.columns, stacked.used_stacker, predictions, scores)


class Inputs(NamedTuple):
    """What stage 3 reads besides the classifiers' predictions."""

    mean_maps: MapSets
    """The segmenters' mean maps"""
    maps: MapSets
    """Those that the masks are made from: the mean maps, or the mask stacker's"""
    columns: Columns
    """LightGBM's features"""
    chest_tubes: pd.Series | None
    """1 or 0 by image_id; None if the data has no table of them"""


def load_inputs(stage: Stage) -> Inputs:
    """Open the maps and count their pixels, and read the tables; raises UsageError if a file is missing."""
    chest_tubes = read_chest_tubes(stage.paths.data_folder)
    mean_maps = load_map_sets(stage, "mean")
    maps = mean_maps if stage.settings.masks == "mean" else load_map_sets(stage, "stacker")
    return Inputs(mean_maps, maps, gather_columns(stage, mean_maps), chest_tubes)


def stack_classifiers(stage: Stage, inputs: Inputs) -> StackedImages:
    """Train and calibrate the heads of all folds, and pick the stacker in use."""
    return apply_used_stacker(stage.settings.stacker, train_fold_stacks(stage, inputs.columns))


def write_submission_files(stage: Stage, stacked: StackedImages, predictions: Predictions) -> None:
    """Write heads.npz, decision.json, search.npz, stacked.parquet and submission.csv."""
    params, test_set = predictions.postprocessing.test_params, predictions.maps.test
    write_heads(stage.folder / "heads.npz", stacked.stacks, stacked.used_stacker)
    calibrations = collect_calibrations(stacked.stacks, stacked.used_stacker)
    record = calibration_record(stage.settings.calibration, calibrations)
    write_decision(
        stage.folder / "decision.json", predictions.postprocessing, predictions.held_out_images, calibration=record
    )
    write_stacked_table(stage, predictions.held_out, predictions.new_rows, params, test_set)
    test_rows = select_test_rows(stage.prepared, predictions.new_rows)
    write_test_submission(stage, test_rows["prob"].to_numpy(), test_set, params)


def score_images(stage: Stage, inputs: Inputs, stacked: StackedImages, predictions: Predictions) -> RunScores:
    """Score held-out images, and test images of known truth; with the mask stacker the segmenters' mean map, too.

    stage: the run
    inputs: its mean maps and chest tubes
    stacked: the stacked probabilities, by which thresholds for the mean maps are chosen
    predictions: what is scored
    """
    scores = score_predictions(stage, predictions, inputs.chest_tubes)
    if inputs.maps is inputs.mean_maps:
        return scores
    plain_predictions = choose_thresholds(stage, stacked.held_out, stacked.new_rows, inputs.mean_maps)
    return replace(scores, plain_mean=score_plain_mean(stage, plain_predictions))


if __name__ == "__main__":
    run_main(main)
