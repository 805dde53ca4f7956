"""From maps to final masks, image by image, on several threads; nothing larger than an image is held."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.datasets.prepared import Prepared
from cxr.imaging import rle
from cxr.imaging.geometry import Letterbox, resize_image
from cxr.paths import Paths
from stage3_stack.config import UnitConfig
from stage3_stack.postprocessing.components import (
    count_components,
    drop_small_components,
    kept_component_areas,
    restore_map,
)
from stage3_stack.postprocessing.mean_maps import MeanMap, read_maps, read_stacked_maps
from stage3_stack.postprocessing.thresholds import (
    LEVELS,
    LevelHistograms,
    MaskRule,
    PostprocessingParams,
    histogram_above_levels,
    score_to_level,
)


@dataclass(frozen=True)
class MappedImages:
    """Images with one set of maps, in a fixed order."""

    ids: list[str]
    mean_maps: list[MeanMap]
    """Of each image: the maps of the fold that it was held out from, or the test's."""


@dataclass(frozen=True)
class MapSet:
    """Images with their maps, and what these hold."""

    images: MappedImages
    histograms: LevelHistograms

    def __getitem__(self, rows: np.ndarray) -> "MapSet":
        image_ids, mean_maps = (
            [value for value, is_chosen in zip(values, rows, strict=True) if is_chosen] for values in self._ids_and_maps
        )
        return MapSet(MappedImages(image_ids, mean_maps), self.histograms[rows])

    @property
    def _ids_and_maps(self) -> tuple[list, list]:
        return self.images.ids, self.images.mean_maps


def load_held_out_maps(
    paths: Paths, prepared: Prepared, unit: UnitConfig, kind: str, component_rules: list[MaskRule]
) -> MapSet:
    """The held-out images of the trained folds, in the order of folds.csv; kind: mean, or the mask stacker's maps."""
    images = open_held_out_maps(paths, unit.segmenters, fold_of_images(prepared, unit.trained), kind)
    return MapSet(images, compute_histograms(images, prepared, component_rules, prepared.manifest["rle"]))


def load_test_maps(
    paths: Paths, prepared: Prepared, unit: UnitConfig, kind: str, component_rules: list[MaskRule]
) -> MapSet:
    """The test images, in the manifest's order."""
    image_ids = prepared.list_ids("test")
    mean_map = (
        read_stacked_maps(paths, image_ids) if kind == "stacker" else read_maps(paths, unit.segmenters, None, image_ids)
    )
    images = MappedImages(image_ids, [mean_map] * len(image_ids))
    return MapSet(images, compute_histograms(images, prepared, component_rules))


def fold_of_images(prepared: Prepared, trained_folds: list[int]) -> pd.Series:
    """Fold of each image of the trained folds, by image_id."""
    return prepared.folds.loc[prepared.folds["fold"].isin(trained_folds), "fold"]


def open_held_out_maps(
    paths: Paths, segmenters: list[str], fold_of_image: pd.Series, kind: str = "mean"
) -> MappedImages:
    """Images, each with the maps of the fold that it was held out from; fold_of_image: by image_id."""
    image_ids = fold_of_image.index.tolist()
    if kind == "stacker":
        return MappedImages(image_ids, [read_stacked_maps(paths, image_ids)] * len(image_ids))
    groups = fold_of_image.groupby(fold_of_image).groups.items()
    map_of_fold = {fold: read_maps(paths, segmenters, int(fold), fold_ids.tolist()) for fold, fold_ids in groups}
    return MappedImages(image_ids, [map_of_fold[fold] for fold in fold_of_image])


def compute_histograms(
    images: MappedImages, prepared: Prepared, component_rules: list[MaskRule], truth_rle: pd.Series | None = None
) -> LevelHistograms:
    """What decisions depend on, of each image brought back to the original as for the submission.

    component_rules: the cuts that drop connected parts, which are counted one by one; truth_rle: RLE of the
    hand-drawn masks by image_id, None where none is known.
    """

    def count_image(id_and_map: tuple[str, MeanMap]) -> tuple:
        box, prob_map = prepared.get_letterbox(id_and_map[0]), id_and_map[1].read_mean(id_and_map[0])
        rle_code = rle.EMPTY if truth_rle is None else truth_rle[id_and_map[0]]
        mask = None if rle_code == rle.EMPTY else rle.decode_mask(rle_code, box.height, box.width)
        areas = histogram_above_levels(restore_map(prob_map, box), None if mask is None else mask.view(np.uint8))
        truth_area = 0 if mask is None else int(mask.sum())
        image_totals = truth_area, count_components(prob_map), box.height * box.width
        return (
            *areas,
            image_totals,
            id_and_map[1].mean_head_prob(id_and_map[0]),
            kept_component_areas(prob_map, mask, component_rules, box),
        )

    return _collect_histograms(
        list(_map_in_threads(count_image, zip(images.ids, images.mean_maps, strict=True))), component_rules
    )


def _collect_histograms(image_counts: list[tuple], component_rules: list[MaskRule]) -> LevelHistograms:
    area_above, overlap_above = (
        np.array([row[k] for row in image_counts], np.int32).reshape(-1, LEVELS) for k in (0, 1)
    )
    truth_area, component_count, pixel_count = np.array([row[2] for row in image_counts], np.int64).reshape(-1, 3).T
    label_head_prob = np.array([row[3] for row in image_counts], float)
    kept_areas = np.array([row[4] for row in image_counts], np.int64).reshape(
        len(image_counts), len(component_rules), 2
    )
    return LevelHistograms(
        area_above,
        overlap_above,
        truth_area,
        label_head_prob,
        component_count,
        {rule: kept_areas[:, k] for k, rule in enumerate(component_rules)},
        pixel_count,
    )


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask of 0 or 1 on a canvas of another size: pixels that are at least half inside."""
    return (resize_image(mask.astype(np.uint8) * 255, size, size) >= 128).astype(np.uint8)


def final_mask(prob_map: np.ndarray, box: Letterbox, rule: MaskRule) -> np.ndarray:
    """The mask in the original, bool [height, width]; the map is enlarged first, so edges are smooth.

    Connected parts are dropped before, on the map's canvas, where they were when the decision was chosen.
    """
    return restore_map(drop_small_components(prob_map, rule, box), box) > score_to_level(rule.bottom_score_threshold)


def encode_final_masks(
    images: MappedImages, has_mask: np.ndarray, params: PostprocessingParams, prepared: Prepared
) -> dict[str, str]:
    """RLE of each image's final mask in the original's pixels."""

    def encode_image(id_map_drawn: tuple[str, MeanMap, bool]) -> str:
        if not id_map_drawn[2]:
            return rle.EMPTY
        return rle.encode_mask(
            final_mask(
                id_map_drawn[1].read_mean(id_map_drawn[0]), prepared.get_letterbox(id_map_drawn[0]), params.mask_rule
            )
        )

    rle_codes = _map_in_threads(encode_image, zip(images.ids, images.mean_maps, has_mask.tolist(), strict=True))
    return dict(zip(images.ids, rle_codes, strict=True))


def _map_in_threads(compute_item: Callable, items: Iterable) -> Iterable:
    """`compute_item` of each item in order; OpenCV and NumPy work outside the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(compute_item, items)
