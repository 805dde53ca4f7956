"""Stage 3 without training: the saved heads and decision.json (which may be edited) give a new submission."""

import pandas as pd

from cxr import recipe, runs
from cxr.errors import UsageError, run_main
from stage3_stack.config import STAGE3, build_stack_step, read_stack_settings
from stage3_stack.config.stage import Stage
from stage3_stack.postprocessing.decision_file import read_test_params
from stage3_stack.postprocessing.map_sets import MapSet, load_test_maps
from stage3_stack.postprocessing.predictions import select_test_rows
from stage3_stack.postprocessing.stacked_table import read_held_out_rows, write_stacked_table
from stage3_stack.postprocessing.submission import write_test_submission
from stage3_stack.postprocessing.thresholds import PostprocessingParams, list_component_rules
from stage3_stack.stacking.cross_fitting import predict_new_images
from stage3_stack.stacking.fold_rows import read_fold_rows
from stage3_stack.stacking.saved_heads import read_heads
from stage3_stack.stacking.tabular_features import Columns, gather_columns


def main() -> None:
    """Command: the submission of the chosen recipe, by its saved heads and its decision.json."""
    chosen_recipe, paths = recipe.load_recipe_and_paths()
    step = build_stack_step(chosen_recipe, paths, read_stack_settings(chosen_recipe))
    if not paths.stage3_folder.is_dir():
        raise UsageError(f"{paths.stage3_folder} is missing; it is made by: {STAGE3}")
    with runs.lock_folder(paths.stage3_folder), runs.name_damaged_inputs((*step.inputs, *step.outputs)):
        predict(Stage(paths, step.settings))
        runs.renew_outputs(paths.stage3_folder, (paths.stage3_folder / "stacked.parquet", paths.submission_csv))


def predict(stage: Stage) -> None:
    """Write stacked.parquet and submission.csv anew; raises UsageError if a file that they are made from is missing."""
    params = read_test_params(stage.folder / "decision.json")
    mean_set, final_set = _load_test_map_sets(stage, params)
    new_rows = predict_new_rows(stage, gather_columns(stage, [mean_set]))
    write_stacked_table(stage, read_held_out_rows(stage), new_rows, params, final_set)
    test_rows = select_test_rows(stage.prepared, new_rows)
    write_test_submission(stage, test_rows["prob"].to_numpy(), final_set, params)


def _load_test_map_sets(stage: Stage, params: PostprocessingParams) -> tuple[MapSet | None, MapSet | None]:
    """The test images with the segmenters' mean maps, and with the maps that the masks are made from."""
    if not stage.unit.segmenters:
        return None, None
    component_rules = list_component_rules(params)
    mean_set = load_test_maps(stage, "mean", component_rules)
    if stage.settings.masks == "mean":
        return mean_set, mean_set
    return mean_set, load_test_maps(stage, "stacker", component_rules)


def predict_new_rows(stage: Stage, columns: Columns) -> pd.DataFrame:
    """split and prob, by image_id, of the images without a label: the mean over folds of the saved heads' predictions.

    columns: the tabular features. Raises UsageError or DataError as `read_heads` and `read_fold_rows` do.
    """
    kind, heads = read_heads(stage.folder)
    fold_tables = []
    for fold in stage.unit.trained:
        rows = read_fold_rows(stage, fold, columns)
        is_new = ~rows.is_held_out
        prob = predict_new_images(rows, heads[fold], kind, is_new)
        fold_tables.append(pd.DataFrame({"split": rows.split[is_new], "prob": prob}, index=rows.image_ids[is_new]))
    by_image = pd.concat(fold_tables).groupby(level=0)
    return pd.DataFrame({"split": by_image["split"].first(), "prob": by_image["prob"].mean()})


if __name__ == "__main__":
    run_main(main)
