"""What was judged, image by image (tables.CASES), with the probabilities of all members and stackers beside it."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import tables
from cxr.datasets import kaggle
from cxr.datasets.prepared import Prepared
from cxr.imaging import rle
from evaluation.mask_metrics import compare_masks
from evaluation.subgroups import CHEST_TUBE
from stage3_stack import config
from stage3_stack.postprocessing.final_masks import MappedImages, MapSet, final_mask
from stage3_stack.postprocessing.nested_choice import NestedPostprocessing
from stage3_stack.postprocessing.thresholds import MaskRule, has_mask, passes_thresholds
from stage3_stack.stacking.cross_fitting import KINDS
from stage3_stack.stacking.out_of_fold import find_scoring_heads, member_column

EMPTY_CASE = {"truth": 0, "found": 0, "overlap": 0, "lesions": 0, "hit": 0, "extra": 0, "nsd": 1.0}
"""Of an image without a lesion that got no mask."""


def evaluate_held_out(
    table: pd.DataFrame,
    prepared: Prepared,
    map_set: MapSet | None,
    postprocessing: NestedPostprocessing,
    group: np.ndarray,
) -> pd.DataFrame:
    """The held-out images, each under the decision of its own group; `table`'s columns and those of tables.CASES.

    table: indexed by image_id, with label, fold, subfold, prob, positive; map_set: the same images in the same order,
    None without segmenters.
    """
    truth_rle = prepared.manifest.loc[table.index, "rle"].to_dict()
    table = table.assign(head=find_scoring_heads(table))
    if map_set is None:
        return _add_image_columns(table, prepared, evaluate_without_maps(truth_rle))
    rules = [params.mask_rule for params in postprocessing.params_of_images(group)]
    return _add_image_columns(
        table,
        prepared,
        evaluate_masks(
            map_set.images, select_masked_rows(table, map_set, postprocessing, group), rules, prepared, truth_rle
        ),
    )


def select_masked_rows(
    table: pd.DataFrame, map_set: MapSet, postprocessing: NestedPostprocessing, group: np.ndarray
) -> np.ndarray:
    """Which held-out images get a mask, bool [n], by the decision of their own group [n]."""
    with_mask, prob = np.zeros(len(table), bool), table["prob"].to_numpy()
    for key, params in postprocessing.group_params.items():
        with_mask[group == key] = has_mask(params, map_set.histograms[group == key], prob[group == key])
    return with_mask


def evaluate_test(
    table: pd.DataFrame,
    prepared: Prepared,
    map_set: MapSet | None,
    postprocessing: NestedPostprocessing,
    truth_rle: dict[str, str],
) -> pd.DataFrame:
    """The test images whose truth is known, under the test's decision, as `evaluate_held_out`.

    truth_rle: RLE by image_id.
    """
    histograms, prob = map_set and map_set.histograms, table["prob"].to_numpy()
    table = table.assign(fold=-1, head=0, positive=passes_thresholds(postprocessing.test_params, histograms, prob))
    if map_set is None:
        mask_figures = evaluate_without_maps(truth_rle).loc[table.index]
    else:
        with_mask = has_mask(postprocessing.test_params, histograms, prob)
        mask_figures = evaluate_masks(
            map_set.images, with_mask, [postprocessing.test_params.mask_rule] * len(table), prepared, truth_rle
        )
    return _add_image_columns(table.assign(label=(mask_figures["truth"] > 0).astype(float)), prepared, mask_figures)


def evaluate_masks(
    images: MappedImages, with_mask: np.ndarray, rules: list[MaskRule], prepared: Prepared, truth_rle: dict[str, str]
) -> pd.DataFrame:
    """`evaluation.mask_metrics.compare_masks` of each image's final mask under its cut.

    Where `with_mask` [n] is False it is of an empty one. truth_rle: RLE of the hand-drawn mask by image_id. Two empty
    masks need not be decoded.
    """

    def evaluate_image(row: int) -> dict[str, int | float]:
        image_id = images.ids[row]
        rle_code = truth_rle[image_id]
        if not with_mask[row] and not len(rle.parse_runs(rle_code)):
            return EMPTY_CASE
        box = prepared.get_letterbox(image_id)
        truth_mask = rle.decode_mask(rle_code, box.height, box.width)
        if not with_mask[row]:
            return compare_masks(truth_mask, np.zeros_like(truth_mask))
        return compare_masks(truth_mask, final_mask(images.mean_maps[row].read_mean(image_id), box, rules[row]))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return pd.DataFrame(
            list(pool.map(evaluate_image, range(len(with_mask)))), index=images.ids, columns=list(EMPTY_CASE)
        )


def evaluate_without_maps(truth_rle: dict[str, str]) -> pd.DataFrame:
    """The same where there are no segmenters: the area of the truth alone, and no surface distance."""
    truth_areas = [int(np.diff(rle.parse_runs(code), axis=1).sum()) for code in truth_rle.values()]
    return pd.DataFrame(EMPTY_CASE | {"nsd": np.nan}, index=list(truth_rle)).assign(truth=truth_areas)


def _add_image_columns(table: pd.DataFrame, prepared: Prepared, mask_figures: pd.DataFrame) -> pd.DataFrame:
    manifest_rows = prepared.manifest.loc[table.index]
    table = table.join(manifest_rows[["patient", "age", "sex", "view"]]).join(mask_figures)
    share = table["truth"] / (manifest_rows["height"] * manifest_rows["width"])
    return table.assign(share=share, image_id=table.index)


def read_chest_tubes(data: Path) -> pd.Series | None:
    """Whether a chest tube is seen, 1 or 0, by image_id; None where the data has no table of them."""
    path = config.chest_tubes_path(data)
    return None if path is None else pd.Series(kaggle.read_chest_tubes(path), dtype=float)


def add_chest_tubes(rows: pd.DataFrame, tubes: pd.Series | None) -> pd.DataFrame:
    """The rows, indexed by image_id, with a column chest_tube (1, 0 or NaN) where there is a table of them."""
    return rows if tubes is None else rows.assign(**{CHEST_TUBE: tubes.reindex(rows.index)})


def write_cases(folder: Path, rows: pd.DataFrame, members: Iterable[str]) -> None:
    """Write cases.parquet and scores.parquet: of the same images, what each member and each stacker says.

    rows: of `evaluate_held_out` and `evaluate_test`, with the columns of the stacks, and `uncalibrated` of those in
    use.
    """
    tube_column = {CHEST_TUBE: "float"} if CHEST_TUBE in rows else {}
    tables.write_table(rows, folder / "cases.parquet", tables.CASES | tube_column)
    scores = rows[["image_id", *map(member_column, members), *KINDS, "uncalibrated"]]
    schema = dict.fromkeys(scores, "float") | {"image_id": "str"}
    tables.write_table(scores, folder / "scores.parquet", schema)
