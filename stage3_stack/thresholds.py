"""When is a mask drawn, and which pixels are it: the decision, chosen by Kaggle's mean Dice over a whole grid.

The triplet (top score, least area, bottom score) is the first place's (sneddy); the gate on the
stacked classifier's probability is the rank-47 solution's, the gate on the segmenters' own label heads the
fourth place's, the least component nguyen's. 8-bit maps have 256 levels, so each image's areas above every
level tell all that any decision can do to it; only dropped components have to be counted one by one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np

from cxr.metrics import dice_of_areas
from stage3_stack.config import GridConfig

LEVELS = 256
NEAR = 0.5  # half an image's Dice, summed over all: less is luck (by simulation .002 better on new images, from 60)


class Cut(NamedTuple):
    """Which pixels a mask is: those above bottom, in connected parts of at least least_component pixels."""

    bottom: float
    least_component: float
    reference_size: float


class Decision(NamedTuple):
    """A mask is drawn where both probabilities reach their gates and least_area pixels score above top.

    It is the pixels above bottom, without connected parts of under least_component pixels. Areas are
    pixels of a square image of reference_size.
    """

    top: float
    least_area: float
    bottom: float
    gate: float
    label_gate: float = 0.0
    least_component: float = 0.0
    reference_size: float = 1024

    @property
    def cut(self) -> Cut:
        return Cut(self.bottom, self.least_component, self.reference_size)


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
    head: np.ndarray
    """float64 [n]: probability of a pneumothorax by the segmenters' label heads; NaN where none has one"""
    pieces: np.ndarray
    """int64 [n]: connected parts of the map above .5"""
    kept: dict[Cut, np.ndarray]
    """int64 [n, 2] for each cut that drops parts: pixels that stay, and those of them inside the hand-drawn mask"""
    size: int

    def __getitem__(self, rows: np.ndarray) -> "Counts":
        kept = {cut: areas[rows] for cut, areas in self.kept.items()}
        each = (array[rows] for array in (self.above, self.overlap, self.truth, self.head, self.pieces))
        return Counts(*each, kept, self.size)

    def areas(self, cut: Cut) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of each image's mask under a cut, and those of them inside the hand-drawn mask, [n] each."""
        if not cut.least_component:
            return self.above[:, level(cut.bottom)], self.overlap[:, level(cut.bottom)]
        return self.kept[cut][:, 0], self.kept[cut][:, 1]


def cuts(decisions: GridConfig | Decision) -> list[Cut]:
    """The cuts of a grid or of a decision that drop connected parts; the others need no counting of their own."""
    found = [decisions.cut] if isinstance(decisions, Decision) else _tried(decisions)
    return [cut for cut in found if cut.least_component]


def _tried(grid: GridConfig) -> list[Cut]:
    return [Cut(*pair, grid.reference_size) for pair in product(grid.bottoms, grid.least_components)]


def pixels(area: float, reference_size: float, size: int) -> float:
    """An area of the settings on a canvas of `size`."""
    return area * (size / reference_size) ** 2


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
    least = pixels(decision.least_area, decision.reference_size, counts.size)
    return (counts.above[:, level(decision.top)] >= least) & passes(decision, counts, prob)


def passes(decision: Decision, counts: Counts | None, prob: np.ndarray) -> np.ndarray:
    """Which images pass both gates, bool [n]; without segmenters (counts: None) there is but one."""
    opened = prob >= decision.gate
    return opened if counts is None else opened & (_head(counts) >= decision.label_gate)


def _head(counts: Counts) -> np.ndarray:
    return np.where(np.isnan(counts.head), 1.0, counts.head)  # without a label head there is no gate to close


def dices(decision: Decision, counts: Counts, prob: np.ndarray) -> np.ndarray:
    """Dice of each image under a decision, [n], on the maps' canvas."""
    keep = drawn(decision, counts, prob)
    found, overlap = counts.areas(decision.cut)
    return dice_of_areas(counts.truth, keep * found, keep * overlap)


def gains(counts: Counts, prob: np.ndarray, grid: GridConfig) -> np.ndarray:
    """Sum over images of what each decision gains in Dice over an empty mask.

    Exact; [gates, label gates, tops, areas, bottoms, components]. Images are binned by how many gates of each
    kind they pass, so that the work is one matrix product a bin.
    """
    enough, gain = _enough(counts, grid), _gain(counts, grid)
    first, second = _passed(prob, grid.gates), _passed(_head(counts), grid.label_gates)
    total = np.zeros((len(grid.gates) + 1, len(grid.label_gates) + 1, enough.shape[1], gain.shape[1]))
    for bin_ in set(zip(first.tolist(), second.tolist(), strict=True)):
        rows = (first == bin_[0]) & (second == bin_[1])
        total[bin_] = enough[rows].T @ gain[rows]
    for axis, gates in enumerate((grid.gates, grid.label_gates)):  # who passes a gate passes all lower ones
        total = np.flip(np.flip(total, axis).cumsum(axis), axis)
        total = np.take(total, 1 + np.argsort(np.argsort(gates, kind="stable")), axis)
    lists = (grid.tops, grid.least_areas, grid.bottoms, grid.least_components)
    return total.reshape(*total.shape[:2], *map(len, lists))


def _passed(prob: np.ndarray, gates: list[float]) -> np.ndarray:
    return np.searchsorted(np.sort(gates), prob, side="right")


def _enough(counts: Counts, grid: GridConfig) -> np.ndarray:
    """Whether each image has the area above each top, as 0 or 1, [n, tops * areas]."""
    least = pixels(np.array(grid.least_areas, float), grid.reference_size, counts.size)
    above = counts.above[:, [level(score) for score in grid.tops]]
    return (above[:, :, None] >= least).reshape(len(above), -1).astype(float)


def _gain(counts: Counts, grid: GridConfig) -> np.ndarray:
    """What each cut's mask gains in Dice over an empty one, [n, bottoms * components]."""
    each = [dice_of_areas(counts.truth, *counts.areas(cut)) for cut in _tried(grid)]
    return np.stack(each, axis=1) - (counts.truth == 0)[:, None]


def best(total: np.ndarray, grid: GridConfig) -> Decision:
    """The decision with the largest gain; of those as good (NEAR) the most central, which stands safest."""
    equal = np.argwhere(total >= total.max() - NEAR)
    centre = np.median(equal, axis=0)
    return _at(grid, equal[np.abs(equal - centre).sum(axis=1).argmin()])


def _at(grid: GridConfig, place: Iterable[int]) -> Decision:
    gate, label_gate, top, area, bottom, component = place
    return Decision(
        grid.tops[top], grid.least_areas[area], grid.bottoms[bottom], grid.gates[gate],
        grid.label_gates[label_gate], grid.least_components[component], grid.reference_size,
    )  # fmt: skip


def unchosen(grid: GridConfig) -> Decision:
    """Where nothing is there to choose by: the grid's only decision, or PLAIN where it holds several."""
    lists = (grid.tops, grid.least_areas, grid.bottoms, grid.gates, grid.label_gates, grid.least_components)
    return _at(grid, (0,) * 6) if all(len(values) == 1 for values in lists) else PLAIN


def nested(counts: Counts, prob: np.ndarray, group: np.ndarray, grid: GridConfig) -> dict[int, Decision]:
    """For each group (fold, say) of images [n] the decision that is best on all other groups.

    As `unchosen` where there is no other group.
    """
    totals = {int(key): gains(counts[group == key], prob[group == key], grid) for key in np.unique(group)}
    others = {key: [total for other, total in totals.items() if other != key] for key in totals}
    return {key: best(np.sum(rest, axis=0), grid) if rest else unchosen(grid) for key, rest in others.items()}


def overall(counts: Counts, prob: np.ndarray, grid: GridConfig) -> Decision:
    """The decision that is best on all images: the one for images of which nothing was held out."""
    return best(gains(counts, prob, grid), grid)
