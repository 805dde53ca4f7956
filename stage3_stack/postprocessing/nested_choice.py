"""Which thresholds each group of held-out images is scored with, and which the test is: chosen nested, as a whole."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.errors import UsageError
from stage3_stack.config import Config, GridConfig
from stage3_stack.postprocessing import inconclusive_zone, operating_point, search_report
from stage3_stack.postprocessing.inconclusive_zone import Zone
from stage3_stack.postprocessing.nesting import HeldOutImages
from stage3_stack.postprocessing.operating_point import DEFAULT_THRESHOLD, OperatingPoint, compute_rates
from stage3_stack.postprocessing.search import TIE_MARGIN, SearchResult, search_thresholds, select_best_params
from stage3_stack.postprocessing.search_axes import build_axes, default_params
from stage3_stack.postprocessing.thresholds import LevelHistograms, PostprocessingParams, passes_thresholds


@dataclass(frozen=True)
class NestedPostprocessing:
    """The thresholds chosen for each group of held-out images, and for the test."""

    nested_by: str
    """fold or subfold"""
    group_params: dict[int, PostprocessingParams]
    """For each group those chosen on all other groups"""
    test_params: PostprocessingParams
    """Those chosen on all held-out images"""
    group_zones: dict[int, Zone] | None = None
    """For each group the zone chosen on all other groups; None if the settings have no zone"""
    test_zone: Zone | None = None
    """The zone chosen on all held-out images; None if the settings have no zone"""
    operating_point_record: dict = field(default_factory=dict)
    """decision.json's operating_point"""
    search: SearchResult | None = None
    """The search on all held-out images; None without segmenters"""
    has_alternatives: bool = False
    """Whether the grid holds more than one combination of thresholds"""

    def groups_of(self, held_out: pd.DataFrame) -> np.ndarray:
        """Group of each held-out row (columns fold, subfold), int [n]."""
        return held_out[self.nested_by].to_numpy(int)

    def params_of_images(self, group: np.ndarray) -> list[PostprocessingParams]:
        """The thresholds that each image is scored with, given its group, int [n]."""
        return [self.group_params[int(key)] for key in group]


def choose_postprocessing(images: HeldOutImages, settings: Config) -> NestedPostprocessing:
    """Choose the thresholds, for each group of held-out images on all other groups and for the test on all images.

    images: with their groups, histograms (None without segmenters), probabilities and labels. What is best is best by
    Kaggle's mean Dice in the originals' pixels; the probability threshold is the operating point's if the settings
    ask for one. settings: its grid, operating_point and zone.

    Returns the thresholds, zones and the record of the operating point; prints targets that are out of reach.
    Raises UsageError if a label head threshold is asked for and no segmenter has a label head.
    """
    grid = settings.grid if images.histograms is None else drop_unreachable_thresholds(settings.grid, images.histograms)
    choices = {"test": _choose_for_test(images, settings, grid)}
    for key in images.group_keys:
        choice = _choose_params(
            images.select_rows(images.group != key), settings, grid, name=f"{images.nested_by} {key}"
        )
        choices[key] = choice._replace(search=None)  # a search holds the histograms that it was made on
    group_zones, test_zone = _choose_zones(images, settings)
    postprocessing = NestedPostprocessing(
        images.nested_by, {key: choices[key].params for key in images.group_keys}, choices["test"].params,
        group_zones, test_zone, search=choices["test"].search, has_alternatives=grid.has_alternatives,
    )  # fmt: skip
    problems = _collect_problems(choices)
    _print_problems(problems, images.nested_by)
    record = _operating_point_record(postprocessing, images, settings) | ({"problems": problems} if problems else {})
    return replace(postprocessing, operating_point_record=record)


class _Choice(NamedTuple):
    """What was chosen on some images."""

    params: PostprocessingParams
    operating_point: OperatingPoint | None
    """None where the probability threshold is chosen by Dice"""
    search: SearchResult | None
    """None without segmenters, or without images"""


def _choose_for_test(images: HeldOutImages, settings: Config, grid: GridConfig) -> _Choice:
    """The choice on all held-out images, whose search keeps all that search_report shows of it."""
    margin = max(TIE_MARGIN, search_report.NEAR_OPTIMAL_MARGIN * len(images.prob))
    return _choose_params(images, settings, grid, name="the test", margin=margin, exact_at_each_threshold=True)


def _choose_params(images: HeldOutImages, settings: Config, grid: GridConfig, name: str, **search_options) -> _Choice:
    """The best thresholds on some images, at the operating point if there is one; name: for the progress line."""
    point = None
    if settings.operating_point.is_chosen_by_labels:
        point = operating_point.pick_operating_point(images.labels, images.prob, settings.operating_point)
    if images.histograms is None or not len(images.prob):
        return _Choice(_params_without_search(images, grid, point), point, None)
    axes = build_axes(grid, images.prob)
    if point:
        axes = axes._replace(probability_thresholds=[point.probability_threshold])
    search = search_thresholds(images.histograms, images.prob, axes, f" of {name}", **search_options)
    return _Choice(select_best_params(search), point, search)


def _params_without_search(
    images: HeldOutImages, grid: GridConfig, point: OperatingPoint | None
) -> PostprocessingParams:
    params = params_without_maps(grid) if images.histograms is None else default_params(grid)
    return params._replace(probability_threshold=point.probability_threshold) if point else params


def _choose_zones(images: HeldOutImages, settings: Config) -> tuple[dict[int, Zone] | None, Zone | None]:
    """The inconclusive zones of the groups, and that of the test; None without one in the settings."""
    if settings.zone is None:
        return None, None
    return (
        inconclusive_zone.find_nested_zones(images.labels, images.prob, images.group, settings.zone),
        inconclusive_zone.find_zone(images.labels, images.prob, settings.zone),
    )


def _collect_problems(choices: dict[int | str, _Choice]) -> dict[str, str]:
    """Operating points that miss their target, and why, by group."""
    points = {str(key): choice.operating_point for key, choice in choices.items()}
    return {key: point.problem for key, point in points.items() if point and point.problem}


def _print_problems(problems: dict[str, str], nested_by: str) -> None:
    for key, problem in problems.items():
        name = key if key == "test" else f"{nested_by} {key}"
        print(f"stage 3 operating point of {name}: {problem}")


def _operating_point_record(postprocessing: NestedPostprocessing, images: HeldOutImages, settings: Config) -> dict:
    """The target and the rates that were reached: for the test in sample, under held_out nested."""
    target = _chosen_target(settings, images.histograms is not None and postprocessing.has_alternatives)
    beta = target.get("f_beta")
    in_sample = passes_thresholds(postprocessing.test_params, images.histograms, images.prob)
    return {
        "target": target,
        **compute_rates(images.labels, in_sample, beta),
        "held_out": compute_rates(images.labels, predict_positives(postprocessing, images), beta),
    }


def _chosen_target(settings: Config, was_searched: bool) -> dict[str, float]:
    """By what the probability threshold was chosen; empty where the grid sets it."""
    if settings.operating_point.is_chosen_by_labels or was_searched:
        return settings.operating_point.target or {"kaggle_dice": True}
    return {}


def params_without_maps(grid: GridConfig) -> PostprocessingParams:
    """Without masks there is no Dice to choose by: the grid's only probability threshold or, of several, .5."""
    thresholds = grid.probability_thresholds
    is_single = isinstance(thresholds, list) and len(thresholds) == 1
    return PostprocessingParams(0.5, 0, 0.5, thresholds[0] if is_single else DEFAULT_THRESHOLD)


def drop_unreachable_thresholds(grid: GridConfig, histograms: LevelHistograms) -> GridConfig:
    """The grid, without label head thresholds if no segmenter has a label head.

    Raises UsageError if no image could then get a mask.
    """
    if not np.isnan(histograms.label_head_prob).all():
        return grid
    if 0 not in grid.label_head_thresholds:
        raise UsageError(
            f"grid.label_head_thresholds is {grid.label_head_thresholds}, but no segmenter of the recipe has a label "
            "head; set it to [0], or give a segmenter a label_head"
        )
    return grid.model_copy(update={"label_head_thresholds": [0.0]})


def predict_positives(postprocessing: NestedPostprocessing, images: HeldOutImages) -> np.ndarray:
    """Whether each held-out image passes the probability thresholds of its own group, bool [n]."""
    predicted_positive = np.zeros(len(images.prob), bool)
    for key, group_images, params in iterate_groups(postprocessing, images):
        predicted_positive[images.group == key] = passes_thresholds(params, group_images.histograms, group_images.prob)
    return predicted_positive


def iterate_groups(
    postprocessing: NestedPostprocessing, images: HeldOutImages
) -> Iterable[tuple[int, HeldOutImages, PostprocessingParams]]:
    """Each group's key, its images, and the thresholds that they are scored with."""
    for key, params in postprocessing.group_params.items():
        yield key, images.select_rows(images.group == key), params
