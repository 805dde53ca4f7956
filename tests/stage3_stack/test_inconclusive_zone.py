"""The inconclusive zone is the narrowest that reaches the accuracy, and a group never chooses its own."""

import itertools

import numpy as np
import pytest

from cxr.config import validate_settings
from cxr.errors import UsageError
from stage3_stack.config import ZoneConfig
from stage3_stack.postprocessing.inconclusive_zone import (
    ALL_INCONCLUSIVE,
    Zone,
    find_nested_zones,
    find_zone,
    score_zones,
)

EXACT = ZoneConfig(accuracy=0.9)


def images(count: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of 0 or 1, and probabilities with ties."""
    draw = np.random.default_rng(seed)
    labels = (draw.random(count) < 0.4).astype(float)
    return labels, np.round(np.clip(0.5 * labels + draw.normal(0.25, 0.25, count), 0.01, 0.99), 1)


def judged(labels: np.ndarray, probs: np.ndarray, found: Zone) -> dict:
    return score_zones(labels, probs, np.full(len(labels), found.low), np.full(len(labels), found.high))


@pytest.mark.parametrize("seed", range(5))
def test_no_zone_with_the_accuracy_sets_fewer_aside(seed):
    labels, probs = images(seed=seed)
    found = judged(labels, probs, find_zone(labels, probs, EXACT))
    assert found["accuracy"] is None or found["accuracy"] >= 0.9
    edges = np.arange(-0.05, 1.1, 0.1)
    tried = [judged(labels, probs, Zone(*pair)) for pair in itertools.combinations_with_replacement(edges, 2)]
    assert found["set_aside"] == min([t["set_aside"] for t in tried if (t["accuracy"] or 0) >= 0.9], default=1)


def test_where_all_are_told_apart_nothing_is_set_aside():
    labels, probs = np.array([0, 0, 1, 1.0]), np.array([0.1, 0.2, 0.6, 0.9])
    assert judged(labels, probs, find_zone(labels, probs, ZoneConfig(accuracy=1))) == {"set_aside": 0, "accuracy": 1}


def test_an_accuracy_out_of_reach_sets_all_aside():
    labels, probs = np.array([1, 0, 1, 0.0]), np.full(4, 0.5)
    found = find_zone(labels, probs, ZoneConfig(accuracy=0.9))
    assert found == ALL_INCONCLUSIVE
    assert judged(labels, probs, found) == {"set_aside": 1, "accuracy": None}
    assert find_zone(np.empty(0), np.empty(0), EXACT) == ALL_INCONCLUSIVE


def test_the_share_and_the_accuracy_are_those_counted_by_hand():
    labels = np.array([0, 1, 0, 1, 1.0])
    probs = np.array([0.1, 0.17, 0.18, 0.8, 0.81])  # the edges themselves are set aside
    found = judged(labels, probs, find_zone(labels, probs, ZoneConfig(low=0.18, high=0.8)))
    assert found == {"set_aside": pytest.approx(0.4), "accuracy": pytest.approx(2 / 3)}


def test_a_groups_own_labels_do_not_move_its_zone():
    labels, probs = images(60)
    group = np.arange(60) % 3
    before = find_nested_zones(labels, probs, group, EXACT)
    changed = np.where(group == 1, 1 - labels, labels)
    after = find_nested_zones(changed, probs, group, EXACT)
    assert after[1] == before[1]
    assert (after[0], after[2]) != (before[0], before[2])
    assert find_nested_zones(labels, probs, np.zeros(60, int), EXACT) == {0: ALL_INCONCLUSIVE}


@pytest.mark.parametrize(
    "values", [{}, {"low": 0.2}, {"low": 0.2, "high": 0.8, "accuracy": 0.9}, {"low": 0.8, "high": 0.2}]
)
def test_half_a_zone_is_refused(values):
    with pytest.raises(UsageError, match=r"some\.yaml.*(low and high|above high)"):
        validate_settings(values, ZoneConfig, "some.yaml")
