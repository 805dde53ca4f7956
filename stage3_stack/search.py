"""The exact search: Kaggle's mean Dice of every top, least area, bottom and gate, and which decision is taken.

An image's mask depends on the bottom alone, and whether it is drawn on the top, the least area and the gates. So
at each top the images are put in the order of their areas above it, and running sums of what each mask gains give
every least area at once. An image without a lesion only ever loses: the best least area is that of an image with
one, or leaves all masks empty, and only there the sums are looked at; the losses between are counts, binned by the last
bottom that leaves a mask. Sums are of float64.
"""

import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from cxr.metrics import dice_of_areas
from cxr.progress import Line
from stage3_stack.config import GridConfig
from stage3_stack.thresholds import LEVELS, PLAIN, Counts, Cut, Decision, heads, level, scaled, to_score

NEAR = 0.5  # half an image's Dice, summed over all: less is luck (by simulation .002 better on new images, from 60)
ROUNDING = 1e-9  # equal sums, added in another order
COARSE = 16  # of so many tops one tells what the best has at least
QUIET = 3.0  # seconds that a search may take without a word


class Axes(NamedTuple):
    """All values tried, ascending."""

    gates: list[float]
    label_gates: list[float]
    least_components: list[float]
    tops: list[float]
    bottoms: list[float]
    least_areas: list[float] | None
    """None: every area that an image has above the top, 0, and one that none has, which leaves every mask empty"""
    reference_size: int


def axes(grid: GridConfig, prob: np.ndarray) -> Axes:
    """The values of a grid; prob [n]: the probabilities whose quantiles are gates."""
    every = [to_score(at) for at in range(LEVELS)]
    tops, bottoms = (every if scores == "exact" else sorted(set(scores)) for scores in (grid.tops, grid.bottoms))
    areas = None if grid.least_areas == "exact" else sorted(set(grid.least_areas))
    others = (sorted(set(values)) for values in (grid.label_gates, grid.least_components))
    return Axes(gates(grid, prob), *others, tops, bottoms, areas, grid.reference_size)


def gates(grid: GridConfig, prob: np.ndarray) -> list[float]:
    """The gates as listed, or 0 and the quantiles of the probabilities [n]."""
    if isinstance(grid.gates, list):
        return sorted(set(grid.gates))
    number = grid.gates["quantiles"]
    shares = np.arange(1, number + 1) / (number + 1)
    return sorted({0.0, *np.quantile(prob, shares).tolist()}) if len(prob) else [0.0]


class Masks(NamedTuple):
    """What images' masks gain in Dice over empty ones, at each bottom [b]."""

    row: np.ndarray
    """int [p]: the images with a lesion"""
    gain: np.ndarray
    """float64 [b, p]: their Dice"""
    step_row: np.ndarray
    """int [e]: images without a lesion; one for each run of bottoms (nearly always one) that leave a mask"""
    step_bottom: np.ndarray
    """int [e]: the last bottom of the run"""
    step: np.ndarray
    """float64 [e]: 1, and -1 where a run of bottoms that leave none ends"""

    def of(self, rows: np.ndarray) -> "Masks":
        """Those of some images, bool [n]."""
        lesion, steps = rows[self.row], rows[self.step_row]
        return Masks(self.row[lesion], self.gain[:, lesion], *(part[steps] for part in self[2:]))

    def at(self, bottoms: np.ndarray) -> "Masks":
        """Those at some bottoms, int [b] ascending: a run ends at the last of them that is in it."""
        last = np.searchsorted(bottoms, self.step_bottom, "right") - 1
        there = last >= 0
        return Masks(self.row, self.gain[bottoms], self.step_row[there], last[there], self.step[there])


def masks(counts: Counts, axes: Axes, least_component: float) -> Masks:
    """The masks of all images under a least component."""
    each = [counts.areas(Cut(bottom, least_component, axes.reference_size)) for bottom in axes.bottoms]
    found, overlap = (np.stack(part) for part in zip(*each, strict=True))
    lesion = counts.truth > 0
    gain = dice_of_areas(counts.truth[lesion], found[:, lesion], overlap[:, lesion])
    there = np.pad(found[:, ~lesion] > 0, ((0, 1), (0, 0))).astype(np.int8)
    steps = there[:-1] - there[1:]
    at = np.nonzero(steps)
    return Masks(np.flatnonzero(lesion), gain, np.flatnonzero(~lesion)[at[1]], at[0], steps[at].astype(float))


def running(own: Masks, area: np.ndarray, tried: np.ndarray) -> np.ndarray:
    """Sum over images of what their masks gain, at each bottom and least area, float64 [b, a].

    area [n]: of each image above the top; tried [a]: the least areas, ascending.
    """
    order = np.argsort(area[own.row])[::-1]
    sums = np.zeros((len(own.gain), len(order) + 1))
    np.cumsum(own.gain[:, order], axis=1, out=sums[:, 1:])
    drawn = len(order) - np.searchsorted(area[own.row][order[::-1]], tried)
    return sums[:, drawn] - _losses(own, area, tried)


def _losses(own: Masks, area: np.ndarray, tried: np.ndarray) -> np.ndarray:
    """How many images without a lesion get a mask, [b, a]."""
    drawn = np.searchsorted(tried, area[own.step_row], "right")  # with so many of the least areas, the smallest ones
    shape = len(own.gain), len(tried) + 1
    steps = np.bincount(own.step_bottom * shape[1] + drawn, own.step, shape[0] * shape[1]).reshape(shape)
    for bottom in range(shape[0] - 1, 0, -1):  # NumPy's own sums along the first axis take five times as long
        steps[bottom - 1] += steps[bottom]
    return np.cumsum(steps[:, :0:-1], axis=1)[:, ::-1]


def tried_areas(axes: Axes, areas: np.ndarray) -> np.ndarray:
    """The least areas, ascending; areas [n]: those of the images that pass the gates, above the top."""
    if axes.least_areas is not None:
        return np.array(axes.least_areas, float)
    return np.unique([*areas, 0.0, np.floor(areas.max(initial=0)) + 1])


@dataclass(frozen=True)
class Search:
    """Of some images, every decision's sum of gains in Dice over empty masks."""

    counts: Counts
    prob: np.ndarray
    axes: Axes
    gain: np.ndarray
    """float64 [gates, label gates, least components, tops, bottoms]: that of the best least area; -inf: left out"""

    def masks(self, place: tuple[int, ...]) -> Masks:
        """Those of the images that pass the gates, under the least component, at a place of `gain`."""
        return self._all[place[2]].of(passing(self.counts, self.prob, self.axes, *place[:2]))

    @cached_property
    def _all(self) -> list[Masks]:
        return [masks(self.counts, self.axes, least) for least in self.axes.least_components]


def passing(counts: Counts, prob: np.ndarray, axes: Axes, gate: int, label_gate: int) -> np.ndarray:
    """The images that pass two gates, bool [n]."""
    return (prob >= axes.gates[gate]) & (heads(counts) >= axes.label_gates[label_gate])


def above(counts: Counts, axes: Axes, top: int) -> np.ndarray:
    """Of each image the area above a top, [n]."""
    return scaled(counts.above[:, level(axes.tops[top])], counts.pixels, axes.reference_size)


def search(
    counts: Counts, prob: np.ndarray, axes: Axes, told: str = "", within: float = NEAR, each_gate: bool = False
) -> Search:
    """Every decision's gain on these images [n]; says how far it is where that takes more than seconds.

    What is provably worse than the best by more than `within` is left out (-inf in Search.gain); with each_gate not
    so far that the best at any gate were not known. What the best has at least, a few tops at every gate tell; the
    proof is in `_sweep`.
    """
    shape = tuple(map(len, axes[:5]))
    found = Search(counts, prob, axes, np.full(shape, -np.inf))
    places = np.ndindex(shape[:3])
    coarse = np.array([_tops(found, found.masks(place), range(0, shape[3], COARSE)).max() for place in places])
    coarse = coarse.reshape(shape[:3])
    least = np.minimum(coarse.max() - within, coarse if each_gate else np.full(coarse.shape, np.inf)) - ROUNDING
    line, start = Line(f"stage 3 thresholds{told}"), time.monotonic()
    for part in np.ndindex(shape[1:3]):
        first = int(coarse[:, *part].argmax())
        for number, gates in enumerate((range(first, shape[0]), range(first, -1, -1))):
            for gate in _sweep(found, gates, part, least[:, *part]):
                if time.monotonic() - start > QUIET:
                    line.say(f"gate {gate + 1} of {shape[0]}, {'down' if number else 'up'} from {first + 1}")
    return found


def _sweep(found: Search, gates: Iterable[int], part: tuple[int, int], least: np.ndarray) -> Iterator[int]:
    """Fill Search.gain at one gate after the other, all of the first, then the tops that may reach `least` [gates].

    Images that a higher gate takes away can raise a sum by no more than their losses, those that a lower one brings
    by no more than their Dice.
    """
    bound, before = np.full(found.gain.shape[3:], np.inf), (0.0, 0.0)
    for gate in gates:
        own, gain = found.masks((gate, *part)), found.gain[gate, *part]
        most = _losses_at_most(own), own.gain.sum(axis=1)
        bound += np.maximum(before[0] - most[0], most[1] - before[1])
        unknown = np.isneginf(gain).any(axis=1)
        tops, before = np.flatnonzero(unknown & (bound >= least[gate]).any(axis=1)), most
        gain[tops] = _tops(found, own, tops)
        bound = np.where(np.isneginf(gain), bound, gain)
        yield gate


def surface(found: Search, place: tuple[int, ...]) -> np.ndarray:
    """The whole of Search.gain [tops, bottoms] at the gates and the least component of a place."""
    return _tops(found, found.masks(place), range(len(found.axes.tops)))


def _losses_at_most(own: Masks) -> np.ndarray:
    """How many images without a lesion have a mask at each bottom, [b]."""
    return np.bincount(own.step_bottom, own.step, len(own.gain))[::-1].cumsum()[::-1]


def _tops(found: Search, own: Masks, tops: Iterable[int]) -> np.ndarray:
    """The gain [tops, bottoms] with the best least area, of the images that pass some gates."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        each = list(pool.map(lambda top: _best(own, above(found.counts, found.axes, top), found.axes), tops))
    return np.array(each).reshape(len(each), len(own.gain))


def _best(own: Masks, area: np.ndarray, axes: Axes) -> np.ndarray:
    """The gain at each bottom [b] with the best least area."""
    if axes.least_areas is not None:
        return running(own, area, np.array(axes.least_areas)).max(axis=1)
    return np.maximum(running(own, area, np.unique([*area[own.row], 0.0])).max(axis=1), 0)


def best(found: Search) -> Decision:
    """The decision with the largest gain; of those as good (within NEAR) the most central, which stands safest.

    Two passes. Of gate, label gate, least component, top and bottom, each by its place among the values tried: the
    places that are as good with some least area; the median of each over these; of them the nearest to the medians
    (sum of distances), the first where several are. Then, there, the least area: of those as good the nearest to the
    median one, by place among all areas that the images there have (or that are listed), ascending.
    """
    enough = found.gain.max() - NEAR - ROUNDING
    place = _central(found.gain >= enough)
    areas, gain = along(found, place)
    near = np.flatnonzero(gain >= min(enough, gain.max()))  # the same sums, but for their last digit
    return _at(found.axes, place, areas[near[np.abs(near - np.median(near)).argmin()]])


def _central(near: np.ndarray) -> tuple[int, ...]:
    """The place, among the true ones, that is nearest to their medians along each axis."""
    distance = np.zeros(near.shape)
    for axis, size in enumerate(near.shape):
        others = tuple(k for k in range(near.ndim) if k != axis)
        median = np.median(np.repeat(np.arange(size), np.count_nonzero(near, axis=others)))
        distance += np.abs(np.arange(size) - median).reshape([-1 if k == axis else 1 for k in range(near.ndim)])
    return np.unravel_index(np.where(near, distance, np.inf).argmin(), near.shape)


def along(found: Search, place: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Every least area, ascending [a], and its gain [a], at one place of Search.gain."""
    rows, area = passing(found.counts, found.prob, found.axes, *place[:2]), above(found.counts, found.axes, place[3])
    tried = tried_areas(found.axes, area[rows])
    return tried, running(found.masks(place).at(np.array([place[4]])), area, tried)[0]


def _at(axes: Axes, place: tuple[int, ...], least_area: float) -> Decision:
    gate, label_gate, component, top, bottom = (values[k] for values, k in zip(axes[:5], place, strict=True))
    area = int(least_area) if float(least_area).is_integer() else float(least_area)
    return Decision(top, area, bottom, gate, label_gate, component, axes.reference_size)


def unchosen(grid: GridConfig) -> Decision:
    """Where nothing is there to choose by: the grid's only decision, or PLAIN where it holds several."""
    if grid.chooses:
        return PLAIN
    only = axes(grid, np.empty(0))
    return _at(only, (0,) * 5, only.least_areas[0])
