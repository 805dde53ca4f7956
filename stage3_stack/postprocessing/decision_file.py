"""decision.json: all that is tuned, with the Dice that it was chosen by; read from there for the test."""

from pathlib import Path

import numpy as np

from cxr.errors import UsageError
from cxr.files import read_json, write_json
from evaluation import metrics
from stage3_stack.config import STAGE3, refuse_renamed_keys
from stage3_stack.config.wording import NESTING_NOTES
from stage3_stack.postprocessing import search_report
from stage3_stack.postprocessing.nested_choice import NestedPostprocessing, iterate_groups
from stage3_stack.postprocessing.nesting import HeldOutImages
from stage3_stack.postprocessing.search_file import write_search_file
from stage3_stack.postprocessing.thresholds import PLAIN_PARAMS, PostprocessingParams, dice_per_image

NOTE = (
    "A mask is drawn where the stacked probability is >= probability_threshold, the segmenters' label heads' mean "
    "probability >= label_head_threshold (0: always) and at least min_area pixels score above top_score_threshold; "
    "it is the pixels that score above bottom_score_threshold, without connected parts of under min_component_area "
    "pixels. Scores are those of the map brought back to the original; areas are in pixels of an image that has "
    "reference_size x reference_size of them. Dice is in the originals' pixels, as in the table. Only this decision, "
    "the operating point and the zone are nested: the held-out images of one {by} are judged by the decision that was "
    "best on the others, but {seen}."
)
SCORE_PARAMS = ("top_score_threshold", "bottom_score_threshold", "probability_threshold", "label_head_threshold")
AREA_PARAMS = ("min_area", "min_component_area", "reference_size")
DiceScores = dict[str, float | None]


def write_decision(
    path: Path, postprocessing: NestedPostprocessing, images: HeldOutImages, calibration: dict | None = None
) -> None:
    """Write decision.json, and search.npz beside it if thresholds were searched.

    path: of decision.json
    postprocessing: the thresholds, zones and operating point
    images: the held-out images that they were chosen on
    calibration: the record of the calibrations, if there is one
    """
    record = {
        "note": NOTE.format(by=postprocessing.nested_by, seen=NESTING_NOTES[postprocessing.nested_by]),
        "test": postprocessing.test_params._asdict(),
        "held_out": {"nested_by": postprocessing.nested_by} | _tuples_by_key(postprocessing.group_params),
        "operating_point": postprocessing.operating_point_record,
    }
    if postprocessing.group_zones is not None:
        nested_zones = _tuples_by_key(postprocessing.group_zones)
        record["inconclusive_zone"] = {"test": postprocessing.test_zone._asdict(), "held_out": nested_zones}
    if postprocessing.search is not None:
        record["kaggle_dice_on_held_out"] = _nested_scores(postprocessing, images)
        record["search"] = _search_summary(postprocessing, record["kaggle_dice_on_held_out"])
    if calibration is not None:
        record["calibration"] = calibration
    _write_or_remove_search_file(path.with_name("search.npz"), postprocessing)
    write_json(path, record)


def _tuples_by_key(tuples: dict[int, tuple]) -> dict[str, dict]:
    return {str(key): value._asdict() for key, value in tuples.items()}


def _nested_scores(postprocessing: NestedPostprocessing, images: HeldOutImages) -> DiceScores:
    """Kaggle's mean Dice: nested, of empty masks, above .5, and of the test's thresholds in sample."""
    dice = np.zeros(len(images.prob))
    for key, group_images, params in iterate_groups(postprocessing, images):
        dice[images.group == key] = dice_per_image(params, group_images.histograms, group_images.prob)
    plain, in_sample = (
        dice_per_image(params, images.histograms, images.prob) for params in (PLAIN_PARAMS, postprocessing.test_params)
    )
    return {
        "nested": metrics.kaggle_dice(dice),
        "all_empty": metrics.empty_submission_dice(images.histograms.truth_area > 0),
        "plain": metrics.kaggle_dice(plain),
        "test_params_in_sample": metrics.kaggle_dice(in_sample),
    }


def _search_summary(postprocessing: NestedPostprocessing, dice: DiceScores) -> dict:
    """How far the groups' thresholds differ, how flat the optimum is, and what choosing gained over PLAIN_PARAMS."""
    return {
        "by": postprocessing.nested_by,
        "fold_spread": search_report.fold_spread(postprocessing.group_params.values()),
        "near_optimal_range": search_report.near_optimal_range(postprocessing.search),
        "gain_over_plain": dice["nested"] - dice["plain"],
        **{name: dice[name] for name in ("nested", "plain", "all_empty")},
    }


def _write_or_remove_search_file(path: Path, postprocessing: NestedPostprocessing) -> None:
    """Write search.npz, or remove that of an earlier run if nothing was searched."""
    if postprocessing.search is not None and postprocessing.has_alternatives:
        write_search_file(path, postprocessing.search, postprocessing.test_params)
    else:
        path.unlink(missing_ok=True)


def read_test_params(path: Path) -> PostprocessingParams:
    """The thresholds for the test from decision.json, which a user may have edited.

    Raises UsageError if it is missing, of an earlier version, or holds values that are out of range.
    """
    record = read_json(path)
    if record is None:
        raise UsageError(f"{path} is missing or damaged; it is made by: {STAGE3}")
    refuse_renamed_keys(path, record.get("test"))
    try:
        params = PostprocessingParams(**{name: float(record["test"][name]) for name in PostprocessingParams._fields})
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UsageError(f"{path}: 'test' needs the numbers {', '.join(PostprocessingParams._fields)}") from None
    _check_ranges(path, params)
    return params


def _check_ranges(path: Path, params: PostprocessingParams) -> None:
    scores, areas = ([getattr(params, name) for name in names] for names in (SCORE_PARAMS, AREA_PARAMS))
    if not all(0 <= score <= 1 for score in scores) or not all(0 <= area < np.inf for area in areas):
        raise UsageError(f"{path}: 'test': thresholds are within 0 and 1, areas 0 and up")
    if params.reference_size == 0:
        raise UsageError(f"{path}: 'test': reference_size is the side of an image, 1024 say, not 0")
