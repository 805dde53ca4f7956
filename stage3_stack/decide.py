"""The decision: chosen nested on held-out images, written to decision.json, read from there for the test."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr import metrics
from cxr.errors import UsageError
from cxr.files import read_json, write_json
from stage3_stack.config import STEP, GridConfig
from stage3_stack.thresholds import PLAIN, Counts, Decision, dices, nested, overall

NOTE = (
    "A mask is drawn where the stacked probability is >= gate and at least least_area pixels (of a 1024x1024 "
    "image) score above top; it is the pixels that score above bottom. Only this decision is nested: the held-out "
    "images of one {by} are judged by what was best on the others, but the networks of the other folds have seen them."
)
WITHOUT_MAPS = Decision(0.5, 0, 0.5, 0.5)
"""Where there are no segmenters: positive from a calibrated .5."""


@dataclass(frozen=True)
class Decisions:
    """What was chosen for each group of held-out images, and for the test."""

    by: str
    """fold or subfold"""
    groups: dict[int, Decision]
    test: Decision


def decide(by: str, group: np.ndarray, counts: Counts | None, prob: np.ndarray, grid: GridConfig) -> Decisions:
    """Choose by Kaggle's mean Dice on the maps' canvas; counts: None where there are no segmenters."""
    if counts is None:
        return Decisions(by, dict.fromkeys(np.unique(group).tolist(), WITHOUT_MAPS), WITHOUT_MAPS)
    return Decisions(by, nested(counts, prob, group, grid), overall(counts, prob, grid))


def positives(decisions: Decisions, group: np.ndarray, prob: np.ndarray) -> np.ndarray:
    """Whether a held-out image passes its own group's gate, bool [n]."""
    return prob >= np.array([decisions.groups[int(key)].gate for key in group])


def write(path: Path, decisions: Decisions, counts: Counts | None, prob: np.ndarray, group: np.ndarray) -> None:
    """Write decision.json, with the Dice (on the maps' canvas) that the choice was made by."""
    record = {
        "note": NOTE.format(by=decisions.by),
        "test": decisions.test._asdict(),
        "held_out": {"nested_by": decisions.by} | {str(k): d._asdict() for k, d in decisions.groups.items()},
    }
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
