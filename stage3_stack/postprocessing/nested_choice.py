"""The decision: chosen nested on held-out images, written to decision.json, read from there for the test."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cxr.errors import UsageError
from cxr.files import read_json, write_json
from evaluation import metrics
from stage3_stack.config import STAGE3, Config, GridConfig, refuse_renamed_keys
from stage3_stack.config.wording import NESTING_NOTES
from stage3_stack.postprocessing import inconclusive_zone, operating_point, search_report
from stage3_stack.postprocessing.inconclusive_zone import Zone
from stage3_stack.postprocessing.operating_point import OperatingPoint
from stage3_stack.postprocessing.search import (
    TIE_MARGIN,
    SearchResult,
    build_axes,
    default_params,
    search_thresholds,
    select_best_params,
)
from stage3_stack.postprocessing.thresholds import (
    PLAIN_PARAMS,
    LevelHistograms,
    PostprocessingParams,
    dice_per_image,
    passes_thresholds,
)

NOTE = (
    "A mask is drawn where the stacked probability is >= probability_threshold, the segmenters' label heads' mean "
    "probability >= label_head_threshold (0: not asked) and at least min_area pixels score above top_score_threshold; "
    "it is the pixels that score above bottom_score_threshold, without connected parts of under min_component_area "
    "pixels. Scores are those of the map brought back to the original; areas are in pixels of an image that has "
    "reference_size x reference_size of them. Dice is in the originals' pixels, as in the table. Only this decision, "
    "the operating point and the zone are nested: the held-out images of one {by} are judged by the decision "
    "that was best on the others, but {seen}."
)
DiceScores = dict[str, float | None]


@dataclass(frozen=True)
class NestedPostprocessing:
    """What was chosen for each group of held-out images, and for the test."""

    nested_by: str
    """fold or subfold"""
    group_params: dict[int, PostprocessingParams]
    test_params: PostprocessingParams
    group_zones: dict[int, Zone] | None = None
    test_zone: Zone | None = None
    """None where no zone is asked for"""
    operating_point_record: dict = field(default_factory=dict)
    """decision.json's operating_point"""
    search: SearchResult | None = None
    """The one on all held-out images; None without segmenters"""
    has_alternatives: bool = False
    """Whether the grid holds more than one decision"""

    def params_of_images(self, group: np.ndarray) -> list[PostprocessingParams]:
        """The decision of each image, given its group [n]."""
        return [self.group_params[int(key)] for key in group]


def choose_postprocessing(
    nested_by: str,
    group: np.ndarray,
    histograms: LevelHistograms | None,
    prob: np.ndarray,
    settings: Config,
    labels: np.ndarray,
) -> NestedPostprocessing:
    """Choose by Kaggle's mean Dice in the originals' pixels; histograms: None where there are no segmenters.

    Raises UsageError where a gate on label heads is asked for and no segmenter has one.
    """
    grid = settings.grid if histograms is None else drop_unreachable_thresholds(settings.grid, histograms)
    rows_outside = {key: group != key for key in np.unique(group).tolist()}
    operating_points = {"test": _pick_operating_point(labels, prob, settings)}
    overall_search, test_params = _choose_params(
        histograms,
        prob,
        grid,
        operating_points["test"],
        "the test",
        max(TIE_MARGIN, search_report.NEAR_OPTIMAL_MARGIN * len(prob)),
    )
    group_params = {}
    for key, rows in rows_outside.items():
        operating_points[key] = _pick_operating_point(labels[rows], prob[rows], settings)
        group_params[key] = _choose_params(
            histograms and histograms[rows], prob[rows], grid, operating_points[key], f"{nested_by} {key}"
        )[1]
    group_and_test_zones = (None, None)
    if settings.zone:
        group_and_test_zones = (
            inconclusive_zone.find_nested_zones(labels, prob, group, settings.zone),
            inconclusive_zone.find_zone(labels, prob, settings.zone),
        )
    postprocessing = NestedPostprocessing(
        nested_by,
        group_params,
        test_params,
        *group_and_test_zones,
        search=overall_search,
        has_alternatives=grid.has_alternatives,
    )
    return replace(
        postprocessing,
        operating_point_record=_operating_point_record(
            postprocessing, operating_points, histograms, prob, group, labels, settings
        ),
    )


def _pick_operating_point(labels: np.ndarray, prob: np.ndarray, settings: Config) -> OperatingPoint | None:
    return (
        operating_point.pick_operating_point(labels, prob, settings.operating_point)
        if settings.operating_point.is_chosen_by_labels
        else None
    )


def _choose_params(
    histograms: LevelHistograms | None,
    prob: np.ndarray,
    grid: GridConfig,
    operating_point: OperatingPoint | None,
    group_name: str,
    margin: float = TIE_MARGIN,
) -> tuple[SearchResult | None, PostprocessingParams]:
    """The search on some images and its best decision, at the operating point's gate where there is one."""
    if histograms is None or not len(prob):
        fallback_params = params_without_maps(grid) if histograms is None else default_params(grid)
        return None, fallback_params._replace(
            probability_threshold=operating_point.probability_threshold
        ) if operating_point else fallback_params
    search_axes = build_axes(grid, prob)
    search_axes = (
        search_axes._replace(probability_thresholds=[operating_point.probability_threshold])
        if operating_point
        else search_axes
    )
    result = search_thresholds(
        histograms, prob, search_axes, f" of {group_name}", margin, exact_at_each_threshold=group_name == "the test"
    )
    return result, select_best_params(result)


def _operating_point_record(
    postprocessing: NestedPostprocessing, operating_points: dict[int | str, OperatingPoint | None],
    histograms: LevelHistograms | None, prob: np.ndarray, group: np.ndarray, labels: np.ndarray, settings: Config,
) -> dict:  # fmt: skip
    """decision.json's operating_point, of which nothing was asked where nothing was chosen.

    What could not be had as asked is printed too.
    """
    was_searched = histograms is not None and postprocessing.has_alternatives
    target = settings.operating_point.target if settings.operating_point.is_chosen_by_labels or was_searched else {}
    target = target or ({"kaggle_dice": True} if was_searched else {})
    beta, problems = (
        target.get("f_beta"),
        {str(key): point.problem for key, point in operating_points.items() if point and point.problem},
    )
    for group_key, problem in problems.items():
        group_name = group_key if group_key == "test" else f"{postprocessing.nested_by} {group_key}"
        print(f"stage 3 operating point of {group_name}: {problem}")
    return {
        "target": target,
        **operating_point.compute_rates(labels, passes_thresholds(postprocessing.test_params, histograms, prob), beta),
        "held_out": operating_point.compute_rates(labels, predict_positives(postprocessing, group, histograms, prob), beta),
    } | ({"problems": problems} if problems else {})  # fmt: skip


def params_without_maps(grid: GridConfig) -> PostprocessingParams:
    """Without masks there is no Dice to choose by: the grid's only gate or, of several, a calibrated .5."""
    has_single_threshold = isinstance(grid.probability_thresholds, list) and len(grid.probability_thresholds) == 1
    return PostprocessingParams(
        0.5, 0, 0.5, grid.probability_thresholds[0] if has_single_threshold else operating_point.DEFAULT_THRESHOLD
    )


def drop_unreachable_thresholds(grid: GridConfig, histograms: LevelHistograms) -> GridConfig:
    """The grid, without gates on label heads where no segmenter has one."""
    if not np.isnan(histograms.label_head_prob).all():
        return grid
    if 0 not in grid.label_head_thresholds:
        raise UsageError(
            f"grid.label_head_thresholds is {grid.label_head_thresholds}, but no segmenter of the recipe has a label "
            "head; set it to [0], or give a segmenter a label_head"
        )
    return grid.model_copy(update={"label_head_thresholds": [0.0]})


def predict_positives(
    postprocessing: NestedPostprocessing, group: np.ndarray, histograms: LevelHistograms | None, prob: np.ndarray
) -> np.ndarray:
    """Whether a held-out image passes its own group's gates, bool [n]."""
    predicted_positive = np.zeros(len(prob), bool)
    for key, params in postprocessing.group_params.items():
        in_group = group == key
        predicted_positive[in_group] = passes_thresholds(
            params, None if histograms is None else histograms[in_group], prob[in_group]
        )
    return predicted_positive


def write_decision(
    path: Path, postprocessing: NestedPostprocessing, histograms: LevelHistograms | None, prob: np.ndarray,
    group: np.ndarray, calibration: dict | None = None,
) -> None:  # fmt: skip
    """Write decision.json, with the Dice that the choice was made by, and search.npz beside it where one was made."""
    record = {
        "note": NOTE.format(by=postprocessing.nested_by, seen=NESTING_NOTES[postprocessing.nested_by]),
        "test": postprocessing.test_params._asdict(),
        "held_out": {"nested_by": postprocessing.nested_by}
        | {str(k): d._asdict() for k, d in postprocessing.group_params.items()},
        "operating_point": postprocessing.operating_point_record,
    }
    if postprocessing.group_zones is not None:
        nested_zones = {str(k): z._asdict() for k, z in postprocessing.group_zones.items()}
        record["inconclusive_zone"] = {"test": postprocessing.test_zone._asdict(), "held_out": nested_zones}
    if postprocessing.search is not None:
        record["kaggle_dice_on_held_out"] = _nested_scores(postprocessing, histograms, prob, group)
        record["search"] = _search_summary(postprocessing, record["kaggle_dice_on_held_out"])
    if calibration is not None:
        record["calibration"] = calibration
    _write_or_remove_search_file(path.with_name("search.npz"), postprocessing)
    write_json(path, record)


def _nested_scores(
    postprocessing: NestedPostprocessing, histograms: LevelHistograms, prob: np.ndarray, group: np.ndarray
) -> DiceScores:
    dice = np.zeros(len(prob))
    for key, params in postprocessing.group_params.items():
        dice[group == key] = dice_per_image(params, histograms[group == key], prob[group == key])
    return {
        "nested": metrics.kaggle_dice(dice),
        "all_empty": metrics.empty_submission_dice(histograms.truth_area > 0),
        "plain": metrics.kaggle_dice(dice_per_image(PLAIN_PARAMS, histograms, prob)),
        "test_params_in_sample": metrics.kaggle_dice(dice_per_image(postprocessing.test_params, histograms, prob)),
    }


def _search_summary(postprocessing: NestedPostprocessing, dice: DiceScores) -> dict:
    """How far the groups' decisions lie apart, how flat the optimum is, and what choosing gained over PLAIN_PARAMS."""
    return {
        "by": postprocessing.nested_by,
        "fold_spread": search_report.fold_spread(postprocessing.group_params.values()),
        "near_optimal_range": search_report.near_optimal_range(postprocessing.search),
        "gain_over_plain": dice["nested"] - dice["plain"],
        **{name: dice[name] for name in ("nested", "plain", "all_empty")},
    }


def _write_or_remove_search_file(path: Path, postprocessing: NestedPostprocessing) -> None:
    """Write search.npz, or take away an earlier run's where there was nothing to search."""
    if postprocessing.search is not None and postprocessing.has_alternatives:
        search_report.write_search_file(path, postprocessing.search, postprocessing.test_params)
    else:
        path.unlink(missing_ok=True)


def read_test_params(path: Path) -> PostprocessingParams:
    """The decision for the test from decision.json, which a user may have edited; UsageError where it means nothing."""
    record = read_json(path)
    if record is None:
        raise UsageError(f"{path} is missing or damaged; it is made by: {STAGE3}")
    refuse_renamed_keys(path, record.get("test"))
    try:
        params = PostprocessingParams(**{name: float(record["test"][name]) for name in PostprocessingParams._fields})
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UsageError(f"{path}: 'test' needs the numbers {', '.join(PostprocessingParams._fields)}") from None
    scores = (
        params.top_score_threshold,
        params.bottom_score_threshold,
        params.probability_threshold,
        params.label_head_threshold,
    )
    areas = (params.min_area, params.min_component_area, params.reference_size)
    if not all(0 <= score <= 1 for score in scores) or not all(0 <= area < np.inf for area in areas):
        raise UsageError(f"{path}: 'test': thresholds are within 0 and 1, areas 0 and up")
    if params.reference_size == 0:
        raise UsageError(f"{path}: 'test': reference_size is the side of an image, 1024 say, not 0")
    return params
