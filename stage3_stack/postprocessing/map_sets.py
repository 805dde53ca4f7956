"""Images with their maps, and the histograms of these; nothing larger than an image is held in memory."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.datasets.prepared import Prepared
from cxr.imaging import rle
from cxr.imaging.geometry import Letterbox
from cxr.paths import Paths
from stage3_stack.config.stage import Stage
from stage3_stack.postprocessing.components import count_components, restore_map
from stage3_stack.postprocessing.final_masks import kept_component_areas
from stage3_stack.postprocessing.mean_maps import MeanMap, read_maps, read_stacked_maps
from stage3_stack.postprocessing.nesting import fold_of_images
from stage3_stack.postprocessing.thresholds import (
    LEVELS,
    LevelHistograms,
    MaskRule,
    histogram_above_levels,
    list_component_rules,
)


@dataclass(frozen=True)
class MappedImages:
    """Images with one set of maps, in a fixed order."""

    ids: list[str]
    mean_maps: list[MeanMap]
    """For each image the maps of the fold that it was held out from, or those of the test"""

    def map_in_threads(self, compute: Callable, *values: Iterable) -> list:
        """`compute(image_id, mean_map, *values)` of each image, in order.

        OpenCV and NumPy work outside the interpreter's lock, so threads are enough.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(compute, self.ids, self.mean_maps, *values))


@dataclass(frozen=True)
class MapSet:
    """Images with their maps, and the histograms of these."""

    images: MappedImages
    histograms: LevelHistograms

    def __getitem__(self, rows: np.ndarray) -> "MapSet":
        """Only these images, bool [n]."""
        chosen = np.flatnonzero(rows).tolist()
        image_ids, mean_maps = ([values[k] for k in chosen] for values in (self.images.ids, self.images.mean_maps))
        return MapSet(MappedImages(image_ids, mean_maps), self.histograms[rows])


class MapSets(NamedTuple):
    """The maps of one kind; both None without segmenters."""

    held_out: MapSet | None = None
    test: MapSet | None = None


def load_map_sets(stage: Stage, kind: str) -> MapSets:
    """The maps of all held-out and test images; kind: mean, the segmenters' mean, or stacker, the mask stacker's.

    Raises UsageError where a map is missing.
    """
    if not stage.unit.segmenters:
        return MapSets()
    component_rules = list_component_rules(stage.settings.grid)
    return MapSets(load_held_out_maps(stage, kind, component_rules), load_test_maps(stage, kind, component_rules))


def load_held_out_maps(stage: Stage, kind: str, component_rules: list[MaskRule]) -> MapSet:
    """The held-out images of the trained folds, in the order of folds.csv; kind as of `load_map_sets`."""
    fold_of_image = fold_of_images(stage.prepared, stage.unit.trained)
    images = open_held_out_maps(stage.paths, stage.unit.segmenters, fold_of_image, kind)
    truth_rle = stage.prepared.manifest["rle"]
    return MapSet(images, compute_histograms(images, stage.prepared, component_rules, truth_rle))


def load_test_maps(stage: Stage, kind: str, component_rules: list[MaskRule]) -> MapSet:
    """The test images, in the manifest's order, without their hand-drawn masks; kind as of `load_map_sets`."""
    image_ids = stage.prepared.list_ids("test")
    if kind == "stacker":
        mean_map = read_stacked_maps(stage.paths, image_ids)
    else:
        mean_map = read_maps(stage.paths, stage.unit.segmenters, None, image_ids)
    images = MappedImages(image_ids, [mean_map] * len(image_ids))
    return MapSet(images, compute_histograms(images, stage.prepared, component_rules))


def open_held_out_maps(
    paths: Paths, segmenters: list[str], fold_of_image: pd.Series, kind: str = "mean"
) -> MappedImages:
    """Images, each with the maps of the fold that it was held out from.

    paths: the folders of the run
    segmenters: names of the members to average
    fold_of_image: int, by image_id; its order is the images'
    kind: mean, or stacker for the mask stacker's maps

    Raises UsageError where a map is missing.
    """
    image_ids = fold_of_image.index.tolist()
    if kind == "stacker":
        return MappedImages(image_ids, [read_stacked_maps(paths, image_ids)] * len(image_ids))
    groups = fold_of_image.groupby(fold_of_image).groups.items()
    map_of_fold = {fold: read_maps(paths, segmenters, int(fold), fold_ids.tolist()) for fold, fold_ids in groups}
    return MappedImages(image_ids, [map_of_fold[fold] for fold in fold_of_image])


def compute_histograms(
    images: MappedImages, prepared: Prepared, component_rules: list[MaskRule], truth_rle: pd.Series | None = None
) -> LevelHistograms:
    """Count the pixels of every image's map, brought back to the original, above each level.

    images: n images with their maps
    prepared: the data that they are of
    component_rules: the rules that drop small components, whose masks are measured one by one
    truth_rle: RLE of the hand-drawn masks by image_id; None if none is known

    Returns the histograms of the n images, in their order.
    """

    def count_image(image_id: str, mean_map: MeanMap) -> "_ImageCounts":
        box = prepared.get_letterbox(image_id)
        truth = None if truth_rle is None else _decode_truth(truth_rle[image_id], box)
        return _count_image(mean_map.read_mean(image_id), truth, component_rules, box)

    counts = images.map_in_threads(count_image)
    head_probs = images.map_in_threads(lambda image_id, mean_map: mean_map.mean_head_prob(image_id))
    return _collect_histograms(counts, np.array(head_probs, float), component_rules)


def _decode_truth(rle_code: str, box: Letterbox) -> np.ndarray | None:
    return None if rle_code == rle.EMPTY else rle.decode_mask(rle_code, box.height, box.width)


class _ImageCounts(NamedTuple):
    """One image's part of LevelHistograms."""

    area_above: np.ndarray
    overlap_above: np.ndarray
    truth_area: int
    component_count: int
    pixel_count: int
    kept_areas: np.ndarray


def _count_image(
    prob_map: np.ndarray, truth: np.ndarray | None, component_rules: list[MaskRule], box: Letterbox
) -> _ImageCounts:
    return _ImageCounts(
        *histogram_above_levels(restore_map(prob_map, box), None if truth is None else truth.view(np.uint8)),
        truth_area=0 if truth is None else int(truth.sum()),
        component_count=count_components(prob_map),
        pixel_count=box.height * box.width,
        kept_areas=kept_component_areas(prob_map, truth, component_rules, box),
    )


def _collect_histograms(
    counts: list[_ImageCounts], head_probs: np.ndarray, component_rules: list[MaskRule]
) -> LevelHistograms:
    area_above, overlap_above = (
        np.array([getattr(row, name) for row in counts], np.int32).reshape(-1, LEVELS)
        for name in ("area_above", "overlap_above")
    )
    truth_area, component_count, pixel_count = (
        np.array([getattr(row, name) for row in counts], np.int64)
        for name in ("truth_area", "component_count", "pixel_count")
    )
    kept_areas = np.array([row.kept_areas for row in counts], np.int64).reshape(len(counts), len(component_rules), 2)
    kept_by_rule = {rule: kept_areas[:, k] for k, rule in enumerate(component_rules)}
    return LevelHistograms(
        area_above, overlap_above, truth_area, head_probs, component_count, kept_by_rule, pixel_count
    )
