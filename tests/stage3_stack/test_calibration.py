"""Calibrations mean what they say, keep the order, stay off 0 and 1; decision.json holds them, and refuses nonsense."""

import json

import numpy as np
import pytest

from cxr.errors import UsageError
from stage3_stack.stacking import calibration
from stage3_stack.stacking.calibration import MIN_SLOPE, Calibration, fit_calibration
from stage3_stack.stacking.fold_rows import sigmoid

KINDS = ("platt", "temperature", "isotonic")


def drawn(count: int, slope: float, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits of which sigmoid(slope * logit + offset) is the chance of a 1."""
    draw = np.random.default_rng(0)
    logits = 2 * draw.normal(size=count)
    return (draw.random(count) < sigmoid(slope * logits + offset)).astype(float), logits


def test_platt_finds_the_slope_and_the_offset():
    slope, intercept = calibration.fit_platt(*drawn(20000, 0.5, -0.5))
    assert (slope, intercept) == (pytest.approx(0.5, abs=0.03), pytest.approx(-0.5, abs=0.05))


def test_temperature_is_the_slope_with_which_the_loss_is_least():
    labels, logits = drawn(5000, 0.5, 0.3)
    found = calibration.fit_temperature(labels, logits)
    assert found.shape == (1,)
    tried = np.arange(0.2, 1, 0.005)
    losses = [-np.log(sigmoid(np.where(labels == 1, 1, -1) * slope * logits)).mean() for slope in tried]
    assert found[0] == pytest.approx(tried[np.argmin(losses)], abs=0.006)


def test_isotonic_steps_are_the_shares_of_their_rows_after_laplace():
    labels = np.array([0, 0, 0, 1, 0, 1, 1.0])
    scaling = fit_calibration("isotonic", labels, np.arange(7.0))
    np.testing.assert_allclose(scaling.apply_to_logits(np.arange(7.0)), [1 / 4] * 3 + [1 / 2] * 2 + [2 / 3] * 2)
    np.testing.assert_allclose(scaling.apply_to_logits(np.array([-9, 2.5, 99])), [1 / 4, 3 / 8, 2 / 3])


def test_isotonic_follows_what_is_no_sigmoid():
    draw = np.random.default_rng(1)
    logits = draw.uniform(-3, 3, 20000)
    truth = np.where(logits < 1, 0.2, 0.7)
    found = fit_calibration("isotonic", (draw.random(20000) < truth).astype(float), logits).apply_to_logits(logits)
    away = np.abs(logits - 1) > 0.1
    assert np.abs(found - truth)[away].mean() < 0.02


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [[], [1, 1], [0]])
def test_without_both_classes_there_is_nothing_to_calibrate(kind, labels):
    found = fit_calibration(kind, np.array(labels), np.ones(len(labels)))
    np.testing.assert_allclose(found.apply_to_logits(np.array([-2.0, 0, 3])), sigmoid(np.array([-2.0, 0, 3])))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["separable", "reversed", "constant"])
def test_a_calibration_keeps_the_order_and_stays_off_0_and_1(kind, shape):
    labels = np.repeat([0.0, 1.0], 20)
    logits = {"separable": labels * 30, "reversed": -labels * 10, "constant": np.zeros(40)}[shape]
    found = fit_calibration(kind, labels, logits).apply_to_logits(np.linspace(-20, 20, 50))
    assert (np.diff(found) >= 0).all()
    assert found.min() > 0
    assert found.max() < 1


def test_a_slope_is_never_turned_round():
    labels = np.repeat([0.0, 1.0], 20)
    assert calibration.fit_temperature(labels, -labels * 10).tolist() == [MIN_SLOPE]
    assert calibration.fit_platt(labels, -labels * 10)[0] == MIN_SLOPE


@pytest.mark.parametrize("kind", KINDS)
def test_decision_json_gives_back_the_same_probabilities(kind, tmp_path):
    labels, logits = drawn(200, 0.7)
    scalings = {"0/1": fit_calibration(kind, labels, logits), "2/0": fit_calibration(kind, labels[:1], logits[:1])}
    path = tmp_path / "decision.json"
    path.write_text(json.dumps({"calibration": calibration.calibration_record(kind, scalings)}))
    for key, scaling in calibration.read_calibrations(path).items():
        np.testing.assert_array_equal(scaling.apply_to_logits(logits), scalings[key].apply_to_logits(logits))


WRONG = [
    ("platt", [1], "two numbers, a slope above 0"), ("platt", [-1, 0], "two numbers, a slope above 0"),
    ("platt", ["a", 0], "two numbers"), ("platt", [1, float("nan")], "two numbers"), ("platt", None, "two numbers"),
    ("temperature", [1, 0], "one number above 0"), ("temperature", {}, "one number above 0"),
    ("isotonic", [[0, 1], [0.6, 0.5]], "two lists"), ("isotonic", [[1, 1], [0.1, 0.5]], "two lists"),
    ("isotonic", [[0, 1], [0, 0.5]], "two lists"), ("isotonic", [[0, 1], [0.5]], "two lists"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "words"), [
    (None, "missing or damaged"),
    ([], "missing or damaged"),
    ({}, "needs a kind"),
    ({"calibration": {"kind": "beta", "heads": {}}}, r"needs a kind \(platt, temperature, isotonic\)"),
    ({"calibration": {"kind": "platt", "heads": [1, 0]}}, "needs a kind .* and heads"),
    ({"calibration": {"kind": ["platt"], "heads": {}}}, "needs a kind"),
    *[({"calibration": {"kind": one, "heads": {"0/1": values}}}, f"0/1 must be {must}") for one, values, must in WRONG],
])  # fmt: skip
def test_a_damaged_calibration_is_refused(record, words, tmp_path):
    path = tmp_path / "decision.json"
    if record is not None:
        path.write_text(json.dumps(record))
    with pytest.raises(UsageError, match=rf"decision.json.*{words}"):
        calibration.read_calibrations(path)


def test_a_scaling_of_one_knot_is_flat():
    assert Calibration("isotonic", np.array([[0.0], [0.25]])).apply_to_logits(np.array([-1, 5])).tolist() == [
        0.25,
        0.25,
    ]
