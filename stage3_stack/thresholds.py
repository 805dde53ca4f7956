"""When is a mask drawn, and which pixels are it: the decision, chosen by Kaggle's mean Dice over a whole grid.

The triplet (top score, least area, bottom score) is the first place's (S. Aimoldin, 2019); the gate
on the stacked classifier's probability is the rank-47 solution's. 8-bit maps have 256 levels, so each
image's areas above every level tell all that any decision can do to it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from cxr.metrics import dice_of_areas
from stage3_stack.config import GridConfig

LEVELS = 256
NEAR = 0.5  # half an image's Dice, summed over all: less is luck (by simulation .002 better on new images, from 60)
SIDE = 1024  # areas in the settings are pixels of an image of this side


class Decision(NamedTuple):
    """A mask is drawn where prob >= gate and least_area pixels score above top; it is the pixels above bottom."""

    top: float
    least_area: float
    bottom: float
    gate: float


PLAIN = Decision(0.5, 0, 0.5, 0.0)
"""What one gets without choosing: every pixel above .5."""


@dataclass(frozen=True)
class Counts:
    """Of each image's map, on a canvas of `size`: all that decisions and their Dice depend on."""

    above: np.ndarray
    """int32 [n, 256]: pixels above each level"""
    overlap: np.ndarray
    """int32 [n, 256]: those of them inside the hand-drawn mask"""
    truth: np.ndarray
    """int64 [n]: pixels of the hand-drawn mask"""
    size: int

    def __getitem__(self, rows: np.ndarray) -> "Counts":
        return Counts(self.above[rows], self.overlap[rows], self.truth[rows], self.size)

    def least_pixels(self, least_area: float) -> float:
        """An area of the settings on this canvas."""
        return least_area * (self.size / SIDE) ** 2


def level(score: float) -> int:
    """The 8-bit level that a pixel must exceed for its probability to exceed `score`."""
    return int(np.floor(score * 255 + 1e-9))


def counted(found: np.ndarray, truth: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a map, uint8 [s, s], above each level, and those inside `truth` (uint8 [s, s]), int32 [256] each."""
    if truth is None or not truth.any():
        return _above(found, None), np.zeros(LEVELS, np.int32)
    return _above(found, None), _above(found, truth.astype(np.uint8))


def _above(found: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    histogram = cv2.calcHist([found], [0], mask, [LEVELS], [0, LEVELS]).ravel().astype(np.int64)
    return (histogram.sum() - np.cumsum(histogram)).astype(np.int32)


def drawn(decision: Decision, counts: Counts, prob: np.ndarray) -> np.ndarray:
    """Which images get a mask, bool [n]."""
    enough = counts.above[:, level(decision.top)] >= counts.least_pixels(decision.least_area)
    return enough & (prob >= decision.gate)


def dices(decision: Decision, counts: Counts, prob: np.ndarray) -> np.ndarray:
    """Dice of each image under a decision, [n], on the maps' canvas."""
    keep, at = drawn(decision, counts, prob), level(decision.bottom)
    return dice_of_areas(counts.truth, keep * counts.above[:, at], keep * counts.overlap[:, at])


def gains(counts: Counts, prob: np.ndarray, grid: GridConfig) -> np.ndarray:
    """Sum over images of what each decision gains in Dice over an empty mask, [gates, tops, areas, bottoms].

    Exact. Images are binned by how many gates they pass, so that the work is one matrix product a bin.
    """
    at = [level(score) for score in grid.bottoms]
    empty = (counts.truth == 0).astype(float)[:, None]
    gain = dice_of_areas(counts.truth[:, None], counts.above[:, at], counts.overlap[:, at]) - empty
    enough = _enough(counts, grid).reshape(len(counts.truth), -1).astype(float)
    order = np.argsort(grid.gates)
    passed = np.searchsorted(np.array(grid.gates)[order], prob, side="right")
    total = np.zeros((len(grid.gates), enough.shape[1], len(at)))
    for gate in reversed(range(len(order))):
        rows = passed == gate + 1
        above = total[order[gate + 1]] if gate + 1 < len(order) else 0.0
        total[order[gate]] = above + enough[rows].T @ gain[rows]
    return total.reshape(len(grid.gates), len(grid.tops), len(grid.least_areas), len(grid.bottoms))


def _enough(counts: Counts, grid: GridConfig) -> np.ndarray:
    least = np.array([counts.least_pixels(area) for area in grid.least_areas])
    return counts.above[:, [level(score) for score in grid.tops]][:, :, None] >= least


def best(total: np.ndarray, grid: GridConfig) -> Decision:
    """The decision with the largest gain; of those as good (NEAR) the most central, which stands safest."""
    equal = np.argwhere(total >= total.max() - NEAR)
    centre = np.median(equal, axis=0)
    gate, top, area, bottom = equal[np.abs(equal - centre).sum(axis=1).argmin()]
    return Decision(grid.tops[top], grid.least_areas[area], grid.bottoms[bottom], grid.gates[gate])


def nested(counts: Counts, prob: np.ndarray, group: np.ndarray, grid: GridConfig) -> dict[int, Decision]:
    """For each group (fold, say) of images [n] the decision that is best on all other groups.

    PLAIN where there is no other group.
    """
    totals = {int(key): gains(counts[group == key], prob[group == key], grid) for key in np.unique(group)}
    others = {key: [total for other, total in totals.items() if other != key] for key in totals}
    return {key: best(np.sum(rest, axis=0), grid) if rest else PLAIN for key, rest in others.items()}


def overall(counts: Counts, prob: np.ndarray, grid: GridConfig) -> Decision:
    """The decision that is best on all images: the one for images of which nothing was held out."""
    return best(gains(counts, prob, grid), grid)
