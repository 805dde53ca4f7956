"""Stage 3 without training: the saved heads and decision.json (which may be edited) give a new submission."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr import recipe, runs, tables
from cxr.datasets.prepared import Prepared
from cxr.errors import UsageError, run_main
from cxr.files import write_atomically
from cxr.paths import Paths
from stage3_stack.config import STAGE3, UnitConfig, build_stack_step, read_stack_settings
from stage3_stack.postprocessing import nested_choice, submission
from stage3_stack.postprocessing.final_masks import MapSet, encode_final_masks, load_test_maps
from stage3_stack.postprocessing.thresholds import (
    PostprocessingParams,
    has_mask,
    list_component_rules,
    passes_thresholds,
)
from stage3_stack.results import scores
from stage3_stack.stacking import calibration, tabular_features
from stage3_stack.stacking.cross_fitting import FoldStack, Head, heads_from_arrays, heads_to_arrays, predict_new_images
from stage3_stack.stacking.fold_rows import STAGE1, read_fold_rows


def main() -> None:
    """Command: the submission of the chosen recipe, by the heads and the decision as they lie there."""
    chosen_recipe, paths = recipe.load_recipe_and_paths()
    step = build_stack_step(chosen_recipe, paths, read_stack_settings(chosen_recipe))
    if not paths.stage3_folder.is_dir():
        raise UsageError(f"{paths.stage3_folder} is missing; it is made by: {STAGE3}")
    with runs.lock_folder(paths.stage3_folder), runs.name_damaged_inputs((*step.inputs, *step.outputs)):
        predict(paths, step.settings)
        runs.renew_outputs(paths.stage3_folder, (paths.stage3_folder / "stacked.parquet", paths.submission_csv))


def predict(paths: Paths, unit: UnitConfig) -> None:
    """Write stacked.parquet and submission.csv anew; raises UsageError where what they are made from is not there."""
    prepared = Prepared(paths.prepared_folder, paths.folds_csv)
    params = nested_choice.read_test_params(paths.stage3_folder / "decision.json")
    mean_set, final_set = _load_test_map_sets(paths, prepared, unit, params)
    extra_columns = tabular_features.gather_columns(
        paths, prepared, unit.settings.lightgbm.columns, [mean_set] if mean_set else []
    )
    new_rows = predict_new_rows(paths, prepared, unit, extra_columns)
    stacked = tables.read_table(paths.stage3_folder / "stacked.parquet", tables.STACKED, STAGE3).set_index("image_id")
    write_stacked_table(paths, stacked[stacked["split"] == "train"], new_rows, params, final_set)
    write_test_submission(paths, prepared, select_test_rows(prepared, new_rows), final_set, params)


def _load_test_map_sets(
    paths: Paths, prepared: Prepared, unit: UnitConfig, params: PostprocessingParams
) -> tuple[MapSet | None, MapSet | None]:
    """The test images with the members' mean maps, and with those that the masks come from."""
    if not unit.segmenters:
        return None, None
    mean_set = load_test_maps(paths, prepared, unit, "mean", list_component_rules(params))
    uses_stacker = unit.settings.masks == "stacker"
    return mean_set, load_test_maps(
        paths, prepared, unit, "stacker", list_component_rules(params)
    ) if uses_stacker else mean_set


def predict_new_rows(
    paths: Paths, prepared: Prepared, unit: UnitConfig, extra_columns: tabular_features.Columns
) -> pd.DataFrame:
    """split and prob, by image_id, of the images without a label: mean over folds of the saved heads'."""
    kind, heads = read_heads(paths.stage3_folder)
    fold_tables = []
    for fold in unit.trained:
        rows = read_fold_rows(paths, prepared, unit.members, fold, extra_columns)
        is_new = ~rows.is_held_out
        prob = predict_new_images(rows, heads[fold], kind, is_new)
        fold_tables.append(pd.DataFrame({"split": rows.split[is_new], "prob": prob}, index=rows.image_ids[is_new]))
    by_image = pd.concat(fold_tables).groupby(level=0)
    return pd.DataFrame({"split": by_image["split"].first(), "prob": by_image["prob"].mean()})


def select_test_rows(prepared: Prepared, new_rows: pd.DataFrame) -> pd.DataFrame:
    """The test images, in the manifest's order; UsageError where one has no probability."""
    test_ids = prepared.list_ids("test")
    missing = [image_id for image_id in test_ids if image_id not in new_rows.index]
    if missing:
        raise UsageError(f"test image {missing[0]} and {len(missing) - 1} more are not predicted; run {STAGE1} again")
    return new_rows.loc[test_ids]


def write_heads(path: Path, stacks: dict[int, FoldStack], kind: str) -> None:
    """Keep the heads of the stacker in use: arrays only, so that NumPy alone applies a dense head."""
    with write_atomically(path) as temporary:
        np.savez(temporary, kind=np.array(kind), **heads_to_arrays(stacks, kind))


def read_heads(folder: Path) -> tuple[str, dict[int, dict[int, Head]]]:
    """The stacker in use, and its heads by fold and subfold, with the calibrations of decision.json.

    Raises UsageError where a file is missing, or a head's calibration.
    """
    path, decision_path = folder / "heads.npz", folder / "decision.json"
    calibrations = calibration.read_calibrations(decision_path)
    if not path.is_file():
        raise UsageError(f"{path} is missing; it is made by: {STAGE3}")
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    kind = str(arrays.pop("kind"))
    try:
        return kind, heads_from_arrays(arrays, kind, calibrations)
    except KeyError as head:
        raise UsageError(f"{decision_path}: 'calibration' lacks head {head}; FORCE=1 makes it anew: {STAGE3}") from None


def write_stacked_table(
    paths: Paths,
    held_out_rows: pd.DataFrame,
    new_rows: pd.DataFrame,
    params: PostprocessingParams,
    map_set: MapSet | None,
) -> None:
    """Write stacked.parquet: held-out rows as they were judged, all others by the test's gates.

    map_set: the test images with their maps, for the gate on label heads; an image without maps has but one gate.
    """
    predicted_positive = new_rows["prob"].to_numpy() >= params.probability_threshold
    if map_set is not None:
        rows_with_maps = new_rows.index.get_indexer(map_set.images.ids)
        predicted_positive[rows_with_maps] = passes_thresholds(
            params, map_set.histograms, new_rows["prob"].to_numpy()[rows_with_maps]
        )
    table = pd.concat([held_out_rows, new_rows.assign(positive=predicted_positive)])
    table = table.rename_axis("image_id").reset_index()
    tables.write_table(table, paths.stage3_folder / "stacked.parquet", tables.STACKED)


def write_test_submission(
    paths: Paths, prepared: Prepared, test_rows: pd.DataFrame, map_set: MapSet | None, params: PostprocessingParams
) -> None:
    """Write submission.csv of the test images [n] and say what is in it."""
    if map_set is None:
        print("stage 3: the recipe has no segmenters, so there are no masks to submit")
        return
    with_mask = has_mask(params, map_set.histograms, test_rows["prob"].to_numpy())
    sample = submission.read_sample(paths.prepared_folder, map_set.images.ids)
    rle_codes = encode_final_masks(map_set.images, with_mask, params, prepared)
    unread_ids = submission.write_submission(
        paths.submission_csv, sample, rle_codes, scores.image_sizes(prepared, map_set.images.ids)
    )
    _report_submission(paths.submission_csv, sample, rle_codes, unread_ids)


def _report_submission(
    path: Path, sample: submission.SampleSubmission, rle_codes: dict[str, str], unread_ids: list[str]
) -> None:
    submitted_ids = [image_id for image_id in sample.ids if image_id in rle_codes]
    filled_count = sum(rle_codes[image_id] != "-1" for image_id in submitted_ids)
    print(f"{path}: {len(sample.ids)} images, {filled_count} with a mask")
    if unread_ids:
        listed_ids = ", ".join(unread_ids[:5]) + (f" and {len(unread_ids) - 5} more" if len(unread_ids) > 5 else "")
        print(f"no readable image, so left empty: {listed_ids}")
    if len(submitted_ids) < len(rle_codes):
        print(f"{len(rle_codes) - len(submitted_ids)} test images are not in the sample submission, so left out")


if __name__ == "__main__":
    run_main(main)
