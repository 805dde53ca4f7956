"""All of stage 3: stack the classifiers, choose the decision, write the submission and the figures."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import config as settings
from cxr import recipe
from cxr.datasets.prepared import Prepared
from cxr.errors import run_main
from cxr.files import read_json, write_json
from cxr.paths import Paths
from cxr.step import run_step
from evaluation import leakage
from evaluation.panel import compute_panel
from stage3_stack import predict
from stage3_stack.config import UnitConfig, build_stack_step, read_stack_settings
from stage3_stack.postprocessing import nested_choice
from stage3_stack.postprocessing.final_masks import MapSet, load_held_out_maps, load_test_maps
from stage3_stack.postprocessing.nested_choice import NestedPostprocessing
from stage3_stack.postprocessing.thresholds import list_component_rules
from stage3_stack.results import cases, figures, scores
from stage3_stack.stacking import calibration, cross_fitting, out_of_fold, tabular_features


def main() -> None:
    """Command: stage 3 of the chosen recipe; --key value overrides a setting."""
    chosen_recipe, paths = recipe.load_recipe_and_paths()
    stage_settings = settings.override_settings(
        read_stack_settings(chosen_recipe), sys.argv[1:], "python -m stage3_stack.train"
    )
    step = build_stack_step(chosen_recipe, paths, stage_settings)
    run_step(step, lambda _identity, metrics: metrics.update(run_stage3(paths, step.settings)))


def run_stage3(paths: Paths, unit: UnitConfig) -> dict:
    """Write all of stage 3 but its run.json; returns the figures of the table."""
    prepared, tubes = Prepared(paths.prepared_folder, paths.folds_csv), cases.read_chest_tubes(paths.data_folder)
    mean_sets = _load_map_sets(paths, prepared, unit, "mean")
    final_sets = mean_sets if unit.settings.masks == "mean" else _load_map_sets(paths, prepared, unit, "stacker")
    extra_columns = tabular_features.gather_columns(
        paths, prepared, unit.settings.lightgbm.columns, list(mean_sets or ())
    )
    combined = out_of_fold.train_fold_stacks(paths, prepared, unit, extra_columns)
    used_stacker, *tables = out_of_fold.apply_used_stacker(unit.settings.stacker, combined)
    held_out_rows, new_rows = (cases.add_chest_tubes(table, tubes) for table in tables)
    held_out_rows, postprocessing = _choose_postprocessing(held_out_rows, final_sets and final_sets[0], unit)
    predict.write_heads(paths.stage3_folder / "heads.npz", combined.stacks, used_stacker)
    calibration_record = calibration.calibration_record(
        unit.settings.calibration, cross_fitting.collect_calibrations(combined.stacks, used_stacker)
    )
    _write_predictions(paths, prepared, held_out_rows, new_rows, final_sets, postprocessing, calibration_record)
    return {
        **_describe_stack(unit, used_stacker, extra_columns, postprocessing),
        **_read_search_record(paths.stage3_folder / "decision.json"),
        **_score_images(held_out_rows, new_rows, paths, prepared, unit, final_sets, postprocessing),
        "plain_mean": _score_plain_mean(held_out_rows, new_rows, paths, prepared, unit, mean_sets),
    }


def _write_predictions(
    paths: Paths, prepared: Prepared, held_out_rows: pd.DataFrame, new_rows: pd.DataFrame,
    final_sets: tuple[MapSet, MapSet] | None, postprocessing: NestedPostprocessing, calibration_record: dict,
) -> None:  # fmt: skip
    held_out_set, test_set = final_sets or (None, None)
    histograms, prob = held_out_set and held_out_set.histograms, held_out_rows["prob"].to_numpy()
    nested_choice.write_decision(
        paths.stage3_folder / "decision.json",
        postprocessing,
        histograms,
        prob,
        _nesting_group(held_out_rows),
        calibration=calibration_record,
    )
    predict.write_stacked_table(paths, held_out_rows, new_rows, postprocessing.test_params, test_set)
    predict.write_test_submission(
        paths, prepared, predict.select_test_rows(prepared, new_rows), test_set, postprocessing.test_params
    )


def _evaluate_cases(
    held_out_rows: pd.DataFrame,
    labelled_test: scores.LabelledTest | None,
    prepared: Prepared,
    map_set: MapSet | None,
    postprocessing: NestedPostprocessing,
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Held-out images, and the test images whose truth is known, with what was judged of each."""
    rows = cases.evaluate_held_out(held_out_rows, prepared, map_set, postprocessing, _nesting_group(held_out_rows))
    return rows, labelled_test and cases.evaluate_test(
        labelled_test.table, prepared, labelled_test.map_set, postprocessing, labelled_test.truth_rle
    )


def _read_search_record(path: Path) -> dict:
    """What decision.json says of the search and of the operating point; None where there was nothing to choose by."""
    record = read_json(path)
    return {name: record.get(name) for name in ("search", "operating_point")}


def _score_images(
    held_out_rows: pd.DataFrame, new_rows: pd.DataFrame, paths: Paths, prepared: Prepared, unit: UnitConfig,
    final_sets: tuple[MapSet, MapSet] | None, postprocessing: NestedPostprocessing,
) -> dict:  # fmt: skip
    """The figures of held-out and test images; writes what they are of."""
    held_out_set, test_set = final_sets or (None, None)
    labelled_test = scores.select_labelled_test(predict.select_test_rows(prepared, new_rows), test_set, paths, prepared)
    rows, test_rows = _evaluate_cases(held_out_rows, labelled_test, prepared, held_out_set, postprocessing)
    return {
        "patients_known": bool(rows["patient"].notna().all()),
        "held_out": scores.score_held_out(rows, unit, held_out_set, postprocessing, _nesting_group(held_out_rows)),
        "test": labelled_test and scores.score_test(test_rows, unit, prepared, labelled_test, postprocessing),
        "calibration": figures.score_calibration(rows, unit.settings.calibration),
        **_write_evidence(paths, prepared, pd.concat([rows, test_rows]), unit),
    }


def _write_evidence(paths: Paths, prepared: Prepared, rows: pd.DataFrame, unit: UnitConfig) -> dict:
    """Write cases.parquet, scores.parquet, panel.json and leaks.json; what the table prints of them."""
    cases.write_cases(paths.stage3_folder, rows, out_of_fold.list_members(unit))
    print(f"stage 3: metrics of {len(rows):,} images with their intervals")
    full_panel, leakage_audit = (
        compute_panel(rows, prevalence=unit.settings.prevalence),
        leakage.audit_leakage(prepared, unit.trained),
    )
    write_json(paths.stage3_folder / "panel.json", full_panel)
    write_json(paths.stage3_folder / "leaks.json", leakage_audit)
    return {"panel": figures.select_headline(full_panel), "leaks": leakage_audit}


def _load_map_sets(paths: Paths, prepared: Prepared, unit: UnitConfig, kind: str) -> tuple[MapSet, MapSet] | None:
    """Held-out and test images with the members' mean maps or the mask stacker's; None without segmenters."""
    if not unit.segmenters:
        return None
    component_rules = list_component_rules(unit.settings.grid)
    return tuple(
        load_maps(paths, prepared, unit, kind, component_rules) for load_maps in (load_held_out_maps, load_test_maps)
    )


def _choose_postprocessing(
    held_out_rows: pd.DataFrame, map_set: MapSet | None, unit: UnitConfig
) -> tuple[pd.DataFrame, NestedPostprocessing]:
    """The decisions by these maps, and the held-out images with what they make of them."""
    nested_by, group = out_of_fold.nesting_groups(held_out_rows)
    histograms, prob = map_set and map_set.histograms, held_out_rows["prob"].to_numpy()
    postprocessing = nested_choice.choose_postprocessing(
        nested_by, group, histograms, prob, unit.settings, held_out_rows["label"].to_numpy()
    )
    return held_out_rows.assign(
        positive=nested_choice.predict_positives(postprocessing, group, histograms, prob)
    ), postprocessing


def _nesting_group(held_out_rows: pd.DataFrame) -> np.ndarray:
    return out_of_fold.nesting_groups(held_out_rows)[1]


def _score_plain_mean(
    held_out_rows: pd.DataFrame, new_rows: pd.DataFrame, paths: Paths, prepared: Prepared,
    unit: UnitConfig, mean_sets: tuple[MapSet, MapSet] | None,
) -> dict | None:  # fmt: skip
    """The mean map's figures, where the mask stacker is in use; its decision is chosen anew."""
    if mean_sets is None or unit.settings.masks == "mean":
        return None
    held_out_rows, postprocessing = _choose_postprocessing(held_out_rows, mean_sets[0], unit)
    labelled_test = scores.select_labelled_test(
        predict.select_test_rows(prepared, new_rows), mean_sets[1], paths, prepared
    )
    return scores.score_plain_mean(
        *_evaluate_cases(held_out_rows, labelled_test, prepared, mean_sets[0], postprocessing)
    )


def _describe_stack(
    unit: UnitConfig, used_stacker: str, extra_columns: tabular_features.Columns, postprocessing: NestedPostprocessing
) -> dict:
    column_names = [name for name in unit.settings.lightgbm.columns if name == "pca" or name in extra_columns]
    return {
        "stacker": {"asked": unit.settings.stacker, "used": used_stacker, "lightgbm_columns": column_names},
        "masks": unit.settings.masks if unit.segmenters else None,
        "nested_by": postprocessing.nested_by,
        "decision": postprocessing.test_params._asdict(),
        "zone": postprocessing.test_zone and postprocessing.test_zone._asdict(),
    }


if __name__ == "__main__":
    run_main(main)
