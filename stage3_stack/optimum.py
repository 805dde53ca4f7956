"""What stands around the decision that was taken: how far it wanders, how flat the optimum is, the search's file."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

from cxr.files import replacing
from stage3_stack.search import ROUNDING, Search, above, along, passing, running, surface, tried_areas
from stage3_stack.thresholds import Decision, level

FLAT = 0.001  # of mean Dice
SHOWN = 512  # least areas in the search's file
PARAMETERS = ("gate", "label_gate", "least_component", "top", "bottom")  # the axes of Search.gain
Ranges = dict[str, list[float]]


def wander(decisions: Iterable[Decision]) -> Ranges:
    """Least and most of each parameter over the groups' decisions."""
    decisions = list(decisions)
    names = (*PARAMETERS, "least_area")
    return {name: _ends([getattr(decision, name) for decision in decisions]) for name in names}


def _ends(values: Iterable[float]) -> list[float]:
    values = list(values)
    return [min(values), max(values)]


def flat(found: Search) -> Ranges:
    """Least and most of each parameter over all decisions whose mean Dice is within FLAT of the best one's."""
    enough = found.gain.max() - FLAT * len(found.prob) - ROUNDING
    near = found.gain >= enough
    places = dict(zip(PARAMETERS, np.nonzero(near), strict=True))
    ranges = {name: _ends(values[k] for k in np.unique(places[name]))
              for name, values in zip(PARAMETERS, found.axes[:5], strict=True)}  # fmt: skip
    return ranges | {"least_area": _flat_areas(found, near, enough)}


def _flat_areas(found: Search, near: np.ndarray, enough: float) -> list[float]:
    """The same for the least area, which Search.gain holds the best of only."""
    ends = []
    for place in product(*map(range, near.shape[:3])):
        tops = np.flatnonzero(near[place].any(axis=1))
        ends += _areas_at(found, place, tops, near[place], enough) if len(tops) else []
    return _ends(ends)


def _areas_at(found: Search, place: tuple[int, ...], tops: np.ndarray, near: np.ndarray, enough: float) -> list[float]:
    own, rows = found.masks(place), passing(found.counts, found.prob, found.axes, *place[:2])

    def one(top: int) -> list[float]:
        area = above(found.counts, found.axes, top)
        tried = tried_areas(found.axes, area[rows])
        total = running(own.at(np.flatnonzero(near[top])), area, tried)
        return _ends(tried[(total >= enough).any(axis=0)].tolist())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [end for ends in pool.map(one, tops.tolist()) for end in ends]


def place_of(found: Search, decision: Decision) -> tuple[int, ...]:
    """Where a decision of this search stands in Search.gain."""
    return tuple(values.index(getattr(decision, name)) for name, values in zip(PARAMETERS, found.axes[:5], strict=True))


def write(path: Path, found: Search, decision: Decision) -> None:
    """Write search.npz: mean Kaggle Dice around a decision of this search.

    tops, bottoms: levels, int; surface [tops, bottoms]: with the best least area, at the decision's gates; gates,
    gate_dice: the best at each gate; areas, area_dice: at the decision's gates, top and bottom, of at most SHOWN
    least areas, evenly spaced by rank, the decision's among them.
    """
    place = place_of(found, decision)
    areas, gain = along(found, place)
    shown = np.unique([*np.linspace(0, len(areas) - 1, SHOWN - 1, dtype=int), _index(areas, decision)])
    tops, bottoms = ([level(score) for score in scores] for scores in (found.axes.tops, found.axes.bottoms))
    with replacing(path) as temporary:
        np.savez(
            temporary, tops=tops, bottoms=bottoms, surface=_mean(found, surface(found, place)),
            gates=found.axes.gates, gate_dice=_mean(found, found.gain.max(axis=(1, 2, 3, 4))),
            areas=areas[shown], area_dice=_mean(found, gain[shown]),
        )  # fmt: skip


def _index(areas: np.ndarray, decision: Decision) -> int:
    return int(np.flatnonzero(areas == decision.least_area)[0])


def _mean(found: Search, gain: np.ndarray) -> np.ndarray:
    """Mean Kaggle Dice: empty masks' and what is gained over them."""
    return (gain + np.count_nonzero(found.counts.truth == 0)) / len(found.prob)
