"""The decision: chosen nested on held-out images, written to decision.json, read from there for the test."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cxr import metrics
from cxr.errors import UsageError
from cxr.files import read_json, write_json
from stage3_stack import operating, optimum, zone
from stage3_stack.config import STEP, Config, GridConfig
from stage3_stack.operating import Point
from stage3_stack.search import NEAR, Search, axes, best, search, unchosen
from stage3_stack.thresholds import PLAIN, Counts, Decision, dices, passes
from stage3_stack.zone import Zone

NOTE = (
    "A mask is drawn where the stacked probability is >= gate, the segmenters' label heads' mean probability >= "
    "label_gate (0: not asked) and at least least_area pixels score above top; it is the pixels that score above "
    "bottom, without connected parts of under least_component pixels. Scores are those of the map brought back to the "
    "original; areas are in pixels of an image that has reference_size x reference_size of them. Dice is in the "
    "originals' pixels, as in the table. Only this decision, the operating point and the zone are nested: the held-out "
    "images of one {by} are judged by what was best on the others, but {seen}."
)
SEEN = {
    "fold": "the networks of the other folds have seen them",
    "subfold": "the heads that scored the other subfolds were trained with them",
}
"""What has seen the images of a group whose decision was chosen without them."""
Numbers = dict[str, float | None]


@dataclass(frozen=True)
class Decisions:
    """What was chosen for each group of held-out images, and for the test."""

    by: str
    """fold or subfold"""
    groups: dict[int, Decision]
    test: Decision
    zones: dict[int, Zone] | None = None
    test_zone: Zone | None = None
    """None where no zone is asked for"""
    point: dict = field(default_factory=dict)
    """decision.json's operating_point"""
    search: Search | None = None
    """The one on all held-out images; None without segmenters"""
    chosen: bool = False
    """Whether the grid holds more than one decision"""

    def of(self, group: np.ndarray) -> list[Decision]:
        """The decision of each image, given its group [n]."""
        return [self.groups[int(key)] for key in group]


def decide(
    by: str, group: np.ndarray, counts: Counts | None, prob: np.ndarray, config: Config, labels: np.ndarray
) -> Decisions:
    """Choose by Kaggle's mean Dice in the originals' pixels; counts: None where there are no segmenters.

    Raises UsageError where a gate on label heads is asked for and no segmenter has one.
    """
    grid = config.grid if counts is None else reachable(config.grid, counts)
    others = {key: group != key for key in np.unique(group).tolist()}
    points = {"test": _point(labels, prob, config)}
    overall, test = _choose(counts, prob, grid, points["test"], "the test", max(NEAR, optimum.FLAT * len(prob)))
    groups = {}
    for key, rows in others.items():
        points[key] = _point(labels[rows], prob[rows], config)
        groups[key] = _choose(counts and counts[rows], prob[rows], grid, points[key], f"{by} {key}")[1]
    zones = (None, None)
    if config.zone:
        zones = (zone.nested(labels, prob, group, config.zone), zone.find(labels, prob, config.zone))
    chosen = Decisions(by, groups, test, *zones, search=overall, chosen=grid.chooses)
    return replace(chosen, point=_told(chosen, points, counts, prob, group, labels, config))


def _point(labels: np.ndarray, prob: np.ndarray, config: Config) -> Point | None:
    return operating.pick(labels, prob, config.operating_point) if config.operating_point.by_labels else None


def _choose(
    counts: Counts | None, prob: np.ndarray, grid: GridConfig, point: Point | None, whose: str, within: float = NEAR
) -> tuple[Search | None, Decision]:
    """The search on some images and its best decision, at the operating point's gate where there is one."""
    if counts is None or not len(prob):
        only = without_maps(grid) if counts is None else unchosen(grid)
        return None, only._replace(gate=point.gate) if point else only
    tried = axes(grid, prob)
    tried = tried._replace(gates=[point.gate]) if point else tried
    found = search(counts, prob, tried, f" of {whose}", within, each_gate=whose == "the test")
    return found, best(found)


def _told(
    chosen: Decisions, points: dict[int | str, Point | None], counts: Counts | None, prob: np.ndarray,
    group: np.ndarray, labels: np.ndarray, config: Config,
) -> dict:  # fmt: skip
    """decision.json's operating_point, of which nothing was asked where nothing was chosen.

    What could not be had as asked is printed too.
    """
    searched = counts is not None and chosen.chosen
    asked = config.operating_point.asked if config.operating_point.by_labels or searched else {}
    asked = asked or ({"kaggle_dice": True} if searched else {})
    beta, said = asked.get("f_beta"), {str(key): point.said for key, point in points.items() if point and point.said}
    for whose, text in said.items():
        print(f"stage 3 operating point of {whose if whose == 'test' else f'{chosen.by} {whose}'}: {text}")
    return {
        "asked": asked,
        **operating.reached(labels, passes(chosen.test, counts, prob), beta),
        "held_out": operating.reached(labels, positives(chosen, group, counts, prob), beta),
    } | ({"said": said} if said else {})  # fmt: skip


def without_maps(grid: GridConfig) -> Decision:
    """Without masks there is no Dice to choose by: the grid's only gate or, of several, a calibrated .5."""
    only = isinstance(grid.gates, list) and len(grid.gates) == 1
    return Decision(0.5, 0, 0.5, grid.gates[0] if only else operating.MIDDLE)


def reachable(grid: GridConfig, counts: Counts) -> GridConfig:
    """The grid, without gates on label heads where no segmenter has one."""
    if not np.isnan(counts.head).all():
        return grid
    if 0 not in grid.label_gates:
        raise UsageError(
            f"grid.label_gates is {grid.label_gates}, but no segmenter of the recipe has a label head; "
            "set it to [0], or give a segmenter a label_head"
        )
    return grid.model_copy(update={"label_gates": [0.0]})


def positives(decisions: Decisions, group: np.ndarray, counts: Counts | None, prob: np.ndarray) -> np.ndarray:
    """Whether a held-out image passes its own group's gates, bool [n]."""
    found = np.zeros(len(prob), bool)
    for key, decision in decisions.groups.items():
        own = group == key
        found[own] = passes(decision, None if counts is None else counts[own], prob[own])
    return found


def write(
    path: Path, decisions: Decisions, counts: Counts | None, prob: np.ndarray, group: np.ndarray,
    calibration: dict | None = None,
) -> None:  # fmt: skip
    """Write decision.json, with the Dice that the choice was made by, and search.npz beside it where one was made."""
    record = {
        "note": NOTE.format(by=decisions.by, seen=SEEN[decisions.by]),
        "test": decisions.test._asdict(),
        "held_out": {"nested_by": decisions.by} | {str(k): d._asdict() for k, d in decisions.groups.items()},
        "operating_point": decisions.point,
    }
    if decisions.zones is not None:
        nested_zones = {str(k): z._asdict() for k, z in decisions.zones.items()}
        record["inconclusive_zone"] = {"test": decisions.test_zone._asdict(), "held_out": nested_zones}
    if decisions.search is not None:
        record["kaggle_dice_on_held_out"] = _judged(decisions, counts, prob, group)
        record["search"] = _around(decisions, record["kaggle_dice_on_held_out"])
    if calibration is not None:
        record["calibration"] = calibration
    _write_search(path.with_name("search.npz"), decisions)
    write_json(path, record)


def _judged(decisions: Decisions, counts: Counts, prob: np.ndarray, group: np.ndarray) -> Numbers:
    own = np.zeros(len(prob))
    for key, decision in decisions.groups.items():
        own[group == key] = dices(decision, counts[group == key], prob[group == key])
    return {
        "nested": metrics.kaggle_dice(own),
        "all_empty": metrics.floor(counts.truth > 0),
        "plain": metrics.kaggle_dice(dices(PLAIN, counts, prob)),
        "the_test's_on_the_images_it_was_chosen_on": metrics.kaggle_dice(dices(decisions.test, counts, prob)),
    }


def _around(decisions: Decisions, dice: Numbers) -> dict:
    """How far the groups' decisions lie apart, how flat the optimum is, and what choosing gained over PLAIN."""
    return {
        "by": decisions.by,
        "wander": optimum.wander(decisions.groups.values()),
        "flat": optimum.flat(decisions.search),
        "gain_over_plain": dice["nested"] - dice["plain"],
        **{name: dice[name] for name in ("nested", "plain", "all_empty")},
    }


def _write_search(path: Path, decisions: Decisions) -> None:
    """Write search.npz, or take away an earlier run's where there was nothing to search."""
    if decisions.search is not None and decisions.chosen:
        optimum.write(path, decisions.search, decisions.test)
    else:
        path.unlink(missing_ok=True)


def read_test(path: Path) -> Decision:
    """The decision for the test from decision.json, which a user may have edited; UsageError where it means nothing."""
    record = read_json(path)
    if record is None:
        raise UsageError(f"{path} is missing or damaged; it is made by: {STEP}")
    try:
        found = Decision(**{name: float(record["test"][name]) for name in Decision._fields})
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UsageError(f"{path}: 'test' needs the numbers {', '.join(Decision._fields)}") from None
    scores = (found.top, found.bottom, found.gate, found.label_gate)
    areas = (found.least_area, found.least_component, found.reference_size)
    if not all(0 <= score <= 1 for score in scores) or not all(0 <= area < np.inf for area in areas):
        raise UsageError(f"{path}: 'test': scores and gates are within 0 and 1, areas 0 and up")
    if found.reference_size == 0:
        raise UsageError(f"{path}: 'test': reference_size is the side of an image, 1024 say, not 0")
    return found
