"""The files of a run's scores, and the metrics of run.json that the closing table prints."""

import pandas as pd

from cxr import tables
from cxr.files import read_json, write_json
from evaluation.subgroups import CHEST_TUBE
from stage3_stack.config.stage import Stage
from stage3_stack.postprocessing.predictions import Predictions
from stage3_stack.results import figures
from stage3_stack.results.scores import RunScores
from stage3_stack.stacking.cross_fitting import KINDS
from stage3_stack.stacking.out_of_fold import member_column
from stage3_stack.stacking.tabular_features import Columns


def report_run(stage: Stage, columns: Columns, used_stacker: str, predictions: Predictions, scores: RunScores) -> dict:
    """Write the scores' files, and collect the metrics of run.json.

    stage: the run
    columns: LightGBM's features
    used_stacker: kind of the stacker for the test
    predictions: with the thresholds
    scores: of the run

    Returns the metrics, by the keys that `stage3_stack.train.run_stage3` names.
    """
    write_score_files(stage, scores)
    return {
        **_describe_stack(stage, columns, used_stacker, predictions),
        **_read_search_record(stage),
        "patients_known": bool(scores.cases.query("split == 'train'")["patient"].notna().all()),
        "held_out": scores.held_out,
        "test": scores.test,
        "calibration": scores.calibration,
        "panel": figures.select_headline(scores.panel),
        "leaks": scores.leakage,
        "plain_mean": scores.plain_mean,
    }


def write_score_files(stage: Stage, scores: RunScores) -> None:
    """Write cases.parquet, scores.parquet, panel.json and leaks.json."""
    write_cases(stage, scores.cases)
    write_json(stage.folder / "panel.json", scores.panel)
    write_json(stage.folder / "leaks.json", scores.leakage)


def write_cases(stage: Stage, rows: pd.DataFrame) -> None:
    """Write cases.parquet, and scores.parquet with the probabilities of the same images by each member and stacker.

    rows: columns of tables.CASES, of the members and stackers, and uncalibrated.
    """
    tube_column = {CHEST_TUBE: "float"} if CHEST_TUBE in rows else {}
    tables.write_table(rows, stage.folder / "cases.parquet", tables.CASES | tube_column)
    scores = rows[["image_id", *map(member_column, stage.member_names), *KINDS, "uncalibrated"]]
    schema = dict.fromkeys(scores, "float") | {"image_id": "str"}
    tables.write_table(scores, stage.folder / "scores.parquet", schema)


def _describe_stack(stage: Stage, columns: Columns, used_stacker: str, predictions: Predictions) -> dict:
    settings, postprocessing = stage.settings, predictions.postprocessing
    column_names = [name for name in settings.lightgbm.columns if name == "pca" or name in columns]
    return {
        "stacker": {"asked": settings.stacker, "used": used_stacker, "lightgbm_columns": column_names},
        "masks": settings.masks if stage.unit.segmenters else None,
        "nested_by": postprocessing.nested_by,
        "decision": postprocessing.test_params._asdict(),
        "zone": postprocessing.test_zone and postprocessing.test_zone._asdict(),
    }


def _read_search_record(stage: Stage) -> dict:
    """search and operating_point of decision.json; search is None where nothing was searched."""
    record = read_json(stage.folder / "decision.json")
    return {name: record.get(name) for name in ("search", "operating_point")}
