"""The decision: chosen nested on held-out images, written to decision.json, read from there for the test."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr import metrics
from cxr.errors import UsageError
from cxr.files import read_json, write_json
from stage3_stack import zone
from stage3_stack.config import STEP, Config, GridConfig
from stage3_stack.thresholds import PLAIN, Counts, Decision, dices, nested, overall, passes
from stage3_stack.zone import Zone

NOTE = (
    "A mask is drawn where the stacked probability is >= gate, the segmenters' label heads' mean probability >= "
    "label_gate (0: not asked) and at least least_area pixels score above top; it is the pixels that score above "
    "bottom, without connected parts of under least_component pixels. Areas are pixels of a square image of "
    "reference_size. Only this decision and the zone are nested: the held-out images of one {by} are judged by what "
    "was best on the others, but the networks of the other folds have seen them."
)


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

    def of(self, group: np.ndarray) -> list[Decision]:
        """The decision of each image, given its group [n]."""
        return [self.groups[int(key)] for key in group]


def decide(
    by: str, group: np.ndarray, counts: Counts | None, prob: np.ndarray, config: Config, labels: np.ndarray
) -> Decisions:
    """Choose by Kaggle's mean Dice on the maps' canvas; counts: None where there are no segmenters.

    Raises UsageError where a gate on label heads is asked for and no segmenter has one.
    """
    keys = np.unique(group).tolist()
    zones = (None, None)
    if config.zone:
        zones = (zone.nested(labels, prob, group, config.zone), zone.find(labels, prob, config.zone))
    if counts is None:
        only = without_maps(config.grid)
        return Decisions(by, dict.fromkeys(keys, only), only, *zones)
    grid = reachable(config.grid, counts)
    return Decisions(by, nested(counts, prob, group, grid), overall(counts, prob, grid), *zones)


def without_maps(grid: GridConfig) -> Decision:
    """Without masks there is no Dice to choose by: the grid's only gate or, of several, a calibrated .5."""
    return Decision(0.5, 0, 0.5, grid.gates[0] if len(grid.gates) == 1 else 0.5)


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


def write(path: Path, decisions: Decisions, counts: Counts | None, prob: np.ndarray, group: np.ndarray) -> None:
    """Write decision.json, with the Dice (on the maps' canvas) that the choice was made by."""
    record = {
        "note": NOTE.format(by=decisions.by),
        "test": decisions.test._asdict(),
        "held_out": {"nested_by": decisions.by} | {str(k): d._asdict() for k, d in decisions.groups.items()},
    }
    if decisions.zones is not None:
        nested_zones = {str(k): z._asdict() for k, z in decisions.zones.items()}
        record["inconclusive_zone"] = {"test": decisions.test_zone._asdict(), "held_out": nested_zones}
    if counts is not None:
        record["kaggle_dice_on_held_out"] = _judged(decisions, counts, prob, group)
    write_json(path, record)


def _judged(decisions: Decisions, counts: Counts, prob: np.ndarray, group: np.ndarray) -> dict[str, float | None]:
    own = np.zeros(len(prob))
    for key, decision in decisions.groups.items():
        own[group == key] = dices(decision, counts[group == key], prob[group == key])
    return {
        "canvas": counts.size,
        "nested": metrics.kaggle_dice(own),
        "all_empty": metrics.floor(counts.truth > 0),
        "plain_top_.5_area_0_bottom_.5_no_gate": metrics.kaggle_dice(dices(PLAIN, counts, prob)),
        "the_test's_on_the_images_it_was_chosen_on": metrics.kaggle_dice(dices(decisions.test, counts, prob)),
    }


def read_test(path: Path) -> Decision:
    """The decision for the test from decision.json, which a user may have edited."""
    record = read_json(path)
    if record is None:
        raise UsageError(f"{path} is missing or damaged; it is made by: {STEP}")
    try:
        return Decision(**{name: float(record["test"][name]) for name in Decision._fields})
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"{path}: 'test' needs the numbers {', '.join(Decision._fields)}") from None
