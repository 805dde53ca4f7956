"""The operating point keeps its word on the images that it was chosen on, and says so where it cannot."""

import numpy as np
import pytest

from cxr.config import validate_settings
from cxr.errors import UsageError
from stage3_stack.config import Config, GridConfig, OperatingPointConfig
from stage3_stack.postprocessing.operating_point import compute_rates, pick_operating_point

LABELS = np.array([0, 0, 0, 1, 0, 1, 1, 1.0])
PROBS = np.array([0.1, 0.2, 0.2, 0.3, 0.4, 0.4, 0.8, 0.9])


def asked(**point: float) -> OperatingPointConfig:
    return OperatingPointConfig(**point)


@pytest.mark.parametrize(("point", "gate"), [
    ({"specificity": 0.75}, 0.25), ({"specificity": 0.76}, 0.6), ({"specificity": 1}, 0.6), ({"specificity": 0}, 0),
    ({"sensitivity": 0.75}, 0.35), ({"sensitivity": 0.76}, 0.25), ({"sensitivity": 0.5}, 0.6),
    ({"f_beta": 1}, 0.25), ({"f_beta": 0.3}, 0.6),
])  # fmt: skip
def test_the_gate_is_the_one_counted_by_hand(point, gate):
    assert pick_operating_point(LABELS, PROBS, asked(**point)) == (pytest.approx(gate), None)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", ["specificity", "sensitivity", "f_beta"])
def test_no_gate_that_keeps_the_word_does_better(name, seed):
    draw = np.random.default_rng(seed)
    labels = (draw.random(50) < 0.4).astype(float)
    probs = np.clip(0.3 * labels + draw.normal(0.3, 0.2, 50), 0.01, 0.99).round(2)
    found = compute_rates(
        labels, probs >= pick_operating_point(labels, probs, asked(**{name: 0.8})).probability_threshold, 0.8
    )
    tried = [compute_rates(labels, probs >= gate, 0.8) for gate in np.arange(-0.005, 1, 0.01)]
    other = {"specificity": "sensitivity", "sensitivity": "specificity", "f_beta": "f_beta"}[name]
    assert name == "f_beta" or found[name] >= 0.8
    assert found[other] == max(each[other] for each in tried if name == "f_beta" or each[name] >= 0.8)


@pytest.mark.parametrize(("labels", "probs", "point", "gate", "said"), [
    ([0, 0, 1], [0.1, 1, 1], {"specificity": 0.9}, 0.55, "specificity 0.9 is out of reach: 0.500 at most"),
    ([1, 0, 0], [0.1, 0.2, 0.6], {"specificity": 0.9}, 0.8, "only by calling every image negative"),
    ([1, 0, 0], [0.1, 0.2, 0.3], {"sensitivity": 0.9}, 0, "only by calling every image positive"),
    ([1, 1], [0.1, 0.2], {"specificity": 0.9}, 0.5, "no image without a pneumothorax"),
    ([0, 0], [0.1, 0.2], {"sensitivity": 0.9}, 0.5, "no image with a pneumothorax"),
    ([], [], {"f_beta": 2}, 0.5, "no image with a pneumothorax"),
])  # fmt: skip
def test_what_cannot_be_had_is_said(labels, probs, point, gate, said):
    found = pick_operating_point(np.array(labels, float), np.array(probs), asked(**point))
    assert found.probability_threshold == pytest.approx(gate)
    assert said in found.problem


def test_neighbouring_probabilities_are_told_apart():
    low, high = 0.3, np.nextafter(0.3, 1)
    assert (
        pick_operating_point(np.array([0, 1.0]), np.array([low, high]), asked(specificity=1)).probability_threshold
        == high
    )


def test_what_is_reached_is_counted_by_hand():
    found = compute_rates(np.array([1, 1, 1, 0, 0]), np.array([True, True, False, True, False]), 2)
    assert found == {"sensitivity": pytest.approx(2 / 3), "specificity": 0.5, "f_beta": pytest.approx(10 / 15)}
    assert compute_rates(np.zeros(2), np.zeros(2, bool), 1) == {"sensitivity": None, "specificity": 1, "f_beta": None}


GRID = {"top_score_thresholds": [0.5], "min_areas": [0], "bottom_score_thresholds": [0.5]}


@pytest.mark.parametrize(("values", "message"), [
    ({"operating_point": {"specificity": 0.9, "f_beta": 1}}, r"specificity and f_beta: give one"),
    ({"operating_point": {"specificty": 0.9}}, r"did you mean 'specificity'"),
    ({"operating_point": {"kaggle_dice": False}}, r"operating_point\.kaggle_dice"),
    ({"operating_point": {"specificity": 0.9}, "grid": GRID | {"probability_thresholds": [0.5]}},
     r"set grid\.probability_thresholds to \[0\]"),
    ({"operating_point": {"f_beta": 1}, "grid": GRID | {"label_head_thresholds": [0.6]}},
     r"set grid\.label_head_thresholds to \[0\]"),
    ({"grid": GRID | {"bottom_score_thresholds": "exact", "min_component_areas": [5]}},
     r"min_component_areas: .*list them"),
    ({"grid": GRID | {"probability_thresholds": {"quantiles": 0}}},
     r"grid\.probability_thresholds.*quantiles.*greater than 0"),
])  # fmt: skip
def test_settings_that_do_not_fit_are_refused_by_their_key(values, message):
    with pytest.raises(UsageError, match=rf"some\.yaml.*{message}"):
        validate_settings({"dense": {"steps": 1}, "grid": GRID} | values, Config, "some.yaml")


def test_kaggles_dice_is_what_is_asked_where_nothing_is():
    config = Config(dense={"steps": 1}, grid=GridConfig(**GRID))
    assert not config.operating_point.is_chosen_by_labels
    assert not OperatingPointConfig(kaggle_dice=True).is_chosen_by_labels
