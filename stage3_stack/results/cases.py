"""What was evaluated, image by image: a row of tables.CASES for each held-out and each labelled test image."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.datasets import kaggle
from cxr.datasets.prepared import Prepared
from cxr.imaging import rle
from evaluation.mask_metrics import compare_masks
from evaluation.subgroups import CHEST_TUBE
from stage3_stack import config
from stage3_stack.config.stage import Stage
from stage3_stack.postprocessing.final_masks import final_mask
from stage3_stack.postprocessing.map_sets import MappedImages, MapSet
from stage3_stack.postprocessing.mean_maps import MeanMap
from stage3_stack.postprocessing.nested_choice import NestedPostprocessing
from stage3_stack.postprocessing.predictions import Predictions, select_test_rows
from stage3_stack.postprocessing.submission import image_sizes, read_truth
from stage3_stack.postprocessing.thresholds import MaskRule, has_mask, passes_thresholds
from stage3_stack.stacking.stacker_choice import find_scoring_heads

EMPTY_CASE = {"truth": 0, "found": 0, "overlap": 0, "lesions": 0, "hit": 0, "extra": 0, "nsd": 1.0}
"""The mask columns of an image without a lesion whose mask is empty."""


class LabelledTest(NamedTuple):
    """The test images whose truth the data has."""

    table: pd.DataFrame
    """split and prob, by image_id"""
    map_set: MapSet | None
    """Their maps, in the table's order; None without segmenters"""
    truth_rle: dict[str, str]
    """RLE of the hand-drawn masks by image_id"""


def select_labelled_test(stage: Stage, predictions: Predictions) -> LabelledTest | None:
    """The test images whose truth is known; None if the data has none. Raises DataError if a mask does not fit."""
    path = config.test_truth_path(stage.paths.data_folder)
    table = select_test_rows(stage.prepared, predictions.new_rows)
    truth_rle = {} if path is None else read_truth(path, image_sizes(stage.prepared, table.index.tolist()))
    if not truth_rle:
        return None
    is_labelled = table.index.isin(list(truth_rle))
    test_set = predictions.maps.test
    return LabelledTest(table[is_labelled], test_set and test_set[is_labelled], truth_rle)


def evaluate_held_out(prepared: Prepared, predictions: Predictions) -> pd.DataFrame:
    """The held-out images, each under the thresholds of its own group: their rows with the columns of tables.CASES."""
    table, map_set = predictions.held_out, predictions.maps.held_out
    group = predictions.postprocessing.groups_of(table)
    truth_rle = prepared.manifest.loc[table.index, "rle"].to_dict()
    if map_set is None:
        mask_figures = evaluate_without_maps(truth_rle)
    else:
        rules = [params.mask_rule for params in predictions.postprocessing.params_of_images(group)]
        with_mask = select_masked_rows(table, map_set, predictions.postprocessing)
        mask_figures = evaluate_masks(map_set.images, with_mask, rules, prepared, truth_rle)
    return _add_image_columns(table.assign(head=find_scoring_heads(table)), prepared, mask_figures)


def select_masked_rows(table: pd.DataFrame, map_set: MapSet, postprocessing: NestedPostprocessing) -> np.ndarray:
    """Which held-out images [n] get a mask by the thresholds of their own group, bool [n]."""
    with_mask, prob, group = np.zeros(len(table), bool), table["prob"].to_numpy(), postprocessing.groups_of(table)
    for key, params in postprocessing.group_params.items():
        with_mask[group == key] = has_mask(params, map_set.histograms[group == key], prob[group == key])
    return with_mask


def evaluate_test(
    prepared: Prepared, labelled_test: LabelledTest, postprocessing: NestedPostprocessing
) -> pd.DataFrame:
    """The labelled test images under the test's thresholds, with the columns of `evaluate_held_out`."""
    table, map_set, truth_rle = labelled_test
    params, histograms, prob = postprocessing.test_params, map_set and map_set.histograms, table["prob"].to_numpy()
    table = table.assign(fold=-1, head=0, positive=passes_thresholds(params, histograms, prob))
    if map_set is None:
        mask_figures = evaluate_without_maps(truth_rle).loc[table.index]
    else:
        with_mask = has_mask(params, histograms, prob)
        mask_figures = evaluate_masks(map_set.images, with_mask, [params.mask_rule] * len(table), prepared, truth_rle)
    return _add_image_columns(table.assign(label=(mask_figures["truth"] > 0).astype(float)), prepared, mask_figures)


def evaluate_masks(
    images: MappedImages, with_mask: np.ndarray, rules: list[MaskRule], prepared: Prepared, truth_rle: dict[str, str]
) -> pd.DataFrame:
    """Compare each image's final mask with the hand-drawn one (`evaluation.mask_metrics.compare_masks`).

    images: n images with their maps
    with_mask: bool [n]; where False the mask is empty
    rules: the rule of each image's mask
    prepared: the data that the images are of
    truth_rle: RLE of the hand-drawn mask by image_id

    Returns the columns of EMPTY_CASE, by image_id. Two empty masks are not decoded.
    """

    def _evaluate_image(image_id: str, mean_map: MeanMap, is_drawn: bool, rule: MaskRule) -> dict[str, int | float]:
        """One row, of image_id, its mean_map, is_drawn (whether it has a mask) and rule."""
        rle_code = truth_rle[image_id]
        if not is_drawn and not len(rle.parse_runs(rle_code)):
            return EMPTY_CASE
        box = prepared.get_letterbox(image_id)
        truth_mask = rle.decode_mask(rle_code, box.height, box.width)
        mask = final_mask(mean_map.read_mean(image_id), box, rule) if is_drawn else np.zeros_like(truth_mask)
        return compare_masks(truth_mask, mask)

    rows = images.map_in_threads(_evaluate_image, with_mask.tolist(), rules)
    return pd.DataFrame(rows, index=images.ids, columns=list(EMPTY_CASE))


def evaluate_without_maps(truth_rle: dict[str, str]) -> pd.DataFrame:
    """The columns of EMPTY_CASE without segmenters: the truth's area, no surface distance, and 0."""
    truth_areas = [int(np.diff(rle.parse_runs(code), axis=1).sum()) for code in truth_rle.values()]
    return pd.DataFrame(EMPTY_CASE | {"nsd": np.nan}, index=list(truth_rle)).assign(truth=truth_areas)


def _add_image_columns(table: pd.DataFrame, prepared: Prepared, mask_figures: pd.DataFrame) -> pd.DataFrame:
    manifest_rows = prepared.manifest.loc[table.index]
    table = table.join(manifest_rows[["patient", "age", "sex", "view"]]).join(mask_figures)
    share = table["truth"] / (manifest_rows["height"] * manifest_rows["width"])
    return table.assign(share=share, image_id=table.index)


def read_chest_tubes(data: Path) -> pd.Series | None:
    """Whether an image shows a chest tube, 1 or 0, by image_id; None if the data has no table of them."""
    path = config.chest_tubes_path(data)
    return None if path is None else pd.Series(kaggle.read_chest_tubes(path), dtype=float)


def add_chest_tubes(rows: pd.DataFrame, tubes: pd.Series | None) -> pd.DataFrame:
    """The rows, indexed by image_id, with a column chest_tube (1, 0 or NaN) if there is a table of them."""
    return rows if tubes is None else rows.assign(**{CHEST_TUBE: tubes.reindex(rows.index)})
