"""The operating point keeps its word on the images that it was chosen on, and says so where it cannot."""

import numpy as np
import pytest

from cxr.config import validate
from cxr.errors import UsageError
from stage3_stack.config import Config, GridConfig, OperatingPointConfig
from stage3_stack.operating import pick, reached

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
    assert pick(LABELS, PROBS, asked(**point)) == (pytest.approx(gate), None)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", ["specificity", "sensitivity", "f_beta"])
def test_no_gate_that_keeps_the_word_does_better(name, seed):
    draw = np.random.default_rng(seed)
    labels = (draw.random(50) < 0.4).astype(float)
    probs = np.clip(0.3 * labels + draw.normal(0.3, 0.2, 50), 0.01, 0.99).round(2)
    found = reached(labels, probs >= pick(labels, probs, asked(**{name: 0.8})).gate, 0.8)
    tried = [reached(labels, probs >= gate, 0.8) for gate in np.arange(-0.005, 1, 0.01)]
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
    found = pick(np.array(labels, float), np.array(probs), asked(**point))
    assert found.gate == pytest.approx(gate)
    assert said in found.said


def test_neighbouring_probabilities_are_told_apart():
    low, high = 0.3, np.nextafter(0.3, 1)
    assert pick(np.array([0, 1.0]), np.array([low, high]), asked(specificity=1)).gate == high


def test_what_is_reached_is_counted_by_hand():
    found = reached(np.array([1, 1, 1, 0, 0]), np.array([True, True, False, True, False]), 2)
    assert found == {"sensitivity": pytest.approx(2 / 3), "specificity": 0.5, "f_beta": pytest.approx(10 / 15)}
    assert reached(np.zeros(2), np.zeros(2, bool), 1) == {"sensitivity": None, "specificity": 1, "f_beta": None}


GRID = {"tops": [0.5], "least_areas": [0], "bottoms": [0.5]}


@pytest.mark.parametrize(("values", "message"), [
    ({"operating_point": {"specificity": 0.9, "f_beta": 1}}, r"specificity and f_beta: give one"),
    ({"operating_point": {"specificty": 0.9}}, r"did you mean 'specificity'"),
    ({"operating_point": {"kaggle_dice": False}}, r"operating_point\.kaggle_dice"),
    ({"operating_point": {"specificity": 0.9}, "grid": GRID | {"gates": [0.5]}}, r"set grid\.gates to \[0\]"),
    ({"operating_point": {"f_beta": 1}, "grid": GRID | {"label_gates": [0.6]}}, r"set grid\.label_gates to \[0\]"),
    ({"grid": GRID | {"bottoms": "exact", "least_components": [5]}}, r"least_components: .*list them"),
    ({"grid": GRID | {"gates": {"quantiles": 0}}}, r"grid\.gates.*quantiles.*greater than 0"),
])  # fmt: skip
def test_settings_that_do_not_fit_are_refused_by_their_key(values, message):
    with pytest.raises(UsageError, match=rf"some\.yaml.*{message}"):
        validate({"dense": {"steps": 1}, "grid": GRID} | values, Config, "some.yaml")


def test_kaggles_dice_is_what_is_asked_where_nothing_is():
    config = Config(dense={"steps": 1}, grid=GridConfig(**GRID))
    assert not config.operating_point.by_labels
    assert not OperatingPointConfig(kaggle_dice=True).by_labels
