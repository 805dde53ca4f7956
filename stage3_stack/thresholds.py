"""When is a mask drawn, and which pixels are it: the decision, and what each image's map holds for it.

The triplet (top score, least area, bottom score) is the first place's (sneddy); the gate on the
stacked classifier's probability is the rank-47 solution's, the gate on the segmenters' own label heads the
fourth place's, the least component nguyen's. 8-bit maps have 256 levels, so each image's areas above every
level tell all that any decision can do to it; only dropped components have to be counted one by one.
"""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np

from cxr.metrics import dice_of_areas
from stage3_stack.config import GridConfig

LEVELS = 256


class Cut(NamedTuple):
    """Which pixels a mask is: those above bottom, in connected parts of at least least_component pixels."""

    bottom: float
    least_component: float
    reference_size: float


class Decision(NamedTuple):
    """A mask is drawn where both probabilities reach their gates and least_area pixels score above top.

    It is the pixels above bottom, without connected parts of under least_component pixels. Areas are
    pixels of an image that has reference_size**2 of them.
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
    """Of each image's map, brought back to the original: all that decisions and their Dice depend on."""

    above: np.ndarray
    """int32 [n, 256]: pixels of the original above each level"""
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
    pixels: np.ndarray
    """int64 [n]: pixels of the original"""

    def __getitem__(self, rows: np.ndarray) -> "Counts":
        kept = {cut: areas[rows] for cut, areas in self.kept.items()}
        each = (array[rows] for array in (self.above, self.overlap, self.truth, self.head, self.pieces))
        return Counts(*each, kept, self.pixels[rows])

    def areas(self, cut: Cut) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of each image's mask under a cut, and those of them inside the hand-drawn mask, [n] each."""
        if not cut.least_component:
            return self.above[:, level(cut.bottom)], self.overlap[:, level(cut.bottom)]
        return self.kept[cut][:, 0], self.kept[cut][:, 1]


def cuts(decisions: GridConfig | Decision) -> list[Cut]:
    """The cuts of a grid or of a decision that drop connected parts; the others need no counting of their own."""
    if isinstance(decisions, Decision):
        return [decisions.cut] if decisions.least_component else []
    least = [component for component in decisions.least_components if component]
    return [Cut(*pair, decisions.reference_size) for pair in product(decisions.bottoms, least)] if least else []


def scaled(area: np.ndarray, pixels: np.ndarray, reference_size: float) -> np.ndarray:
    """Areas in images of so many pixels as areas of the settings; exact where the result is a whole number."""
    return area * float(reference_size) ** 2 / pixels


def level(score: float) -> int:
    """The 8-bit level that a pixel must exceed for its probability to exceed `score`."""
    return int(np.floor(score * 255 + 1e-9))


def to_score(at: int) -> float:
    """A score of three digits that just the pixels above a level exceed."""
    return min(round((at + 0.5) / 255, 3), 1.0)


def counted(found: np.ndarray, truth: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a map, uint8 [h, w], above each level, and those inside `truth` (uint8 [h, w]), int32 [256] each."""
    if truth is None or not truth.any():
        return _above(found, None), np.zeros(LEVELS, np.int32)
    return _above(found, None), _above(found, truth.astype(np.uint8))


def _above(found: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Summed from the top, so that level 0, whose pixels may be more than float32 can count, plays no part."""
    histogram = cv2.calcHist([found], [0], mask, [LEVELS], [0, LEVELS]).ravel().astype(np.int32)
    return np.append(np.cumsum(histogram[:0:-1], dtype=np.int32)[::-1], np.int32(0))


def drawn(decision: Decision, counts: Counts, prob: np.ndarray) -> np.ndarray:
    """Which images get a mask, bool [n]."""
    area = scaled(counts.above[:, level(decision.top)], counts.pixels, decision.reference_size)
    return (area >= decision.least_area) & passes(decision, counts, prob)


def passes(decision: Decision, counts: Counts | None, prob: np.ndarray) -> np.ndarray:
    """Which images pass both gates, bool [n]; without segmenters (counts: None) there is but one."""
    opened = prob >= decision.gate
    return opened if counts is None else opened & (heads(counts) >= decision.label_gate)


def heads(counts: Counts) -> np.ndarray:
    """What the gate on label heads is asked of, [n]; 1 where there is no label head, and so no gate to close."""
    return np.where(np.isnan(counts.head), 1.0, counts.head)


def dices(decision: Decision, counts: Counts, prob: np.ndarray) -> np.ndarray:
    """Dice of each image under a decision, [n], in the original's pixels."""
    keep = drawn(decision, counts, prob)
    found, overlap = counts.areas(decision.cut)
    return dice_of_areas(counts.truth, keep * found, keep * overlap)
