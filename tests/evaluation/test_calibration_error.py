"""The expected calibration error: counted as scikit-learn's curve has it, and its interval."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from evaluation import calibration_error
from tests.evaluation.panel_cases import made


@pytest.mark.parametrize("digits", [1, 2, 6])
def test_the_counted_calibration_error_is_that_of_the_reliability_curve(digits):
    cases = made(300)
    label, prob = cases["label"], cases["prob"].round(digits).clip(0.001, 0.999)
    prob = prob.where(~np.isclose(prob * 10 % 1, 0), prob + 1e-6)  # its bins are open to the left, ours to the right
    shares, means = calibration_curve(label, prob, n_bins=10)
    weights = np.bincount((prob * 10).astype(int), minlength=10)
    expected = np.sum(np.abs(shares - means) * weights[weights > 0]) / len(prob)
    one = np.ones((1, 1), np.uint8)
    found = calibration_error.compute_bin_differences(label.to_numpy(), prob.to_numpy(), np.zeros(len(prob), int), one)
    assert np.abs(found[:, 0]).sum() == pytest.approx(expected, abs=1e-12)


def test_the_calibration_error_of_calibrated_probabilities_is_about_none():
    """The counted one is far from 0, its unbiased value is not, and the interval reaches down to 0."""
    random = np.random.default_rng(5)
    prob = random.uniform(0, 1, 400)
    label, patient = (random.random(400) < prob).astype(float), np.arange(400)
    counts = np.vstack([np.ones(400), random.multinomial(400, np.full(400, 1 / 400), 500)]).astype(np.uint8)
    rows = calibration_error.compute_bin_differences(label, prob, patient, counts)
    value, low, high = calibration_error.estimate_unbiased_error(rows, 400)
    assert low == 0 <= value < np.abs(rows[:, 0]).sum() - 0.01
    assert high > 0.03
    off = calibration_error.estimate_unbiased_error(
        calibration_error.compute_bin_differences(label, prob * 0.5, patient, counts), 400
    )
    assert off == pytest.approx((0.25, 0.2, 0.3), abs=0.05)  # mean of prob / 2


def test_an_error_that_is_even_is_held_as_often_as_it_should():
    """As large as the noise in each of 60 bins; 95 % of 200 is 190 (181 to 199 in 99.7 % of times)."""
    random, held = np.random.default_rng(1), 0
    for _ in range(200):
        counted = 0.01 + 0.01 * random.standard_normal((60, 1))
        noise = 0.01 * random.standard_normal((60, 200))
        _, low, high = calibration_error.estimate_unbiased_error(np.hstack([counted, counted + noise]), 1000)
        held += low <= 0.6 <= high
    assert 181 <= held <= 199


def test_the_interval_of_few_patients_is_wider():
    """By Student's deviate for 4 degrees of freedom, 2.776 for 1.960, and the root of 5 / 4."""
    counted = np.array([[0.2], [-0.1]])
    rows = np.hstack([counted, counted + np.random.default_rng(0).normal(0, 0.01, (2, 4000))])
    widths = [
        high - low
        for _, low, high in (calibration_error.estimate_unbiased_error(rows, patients) for patients in (5, 10**6))
    ]
    assert widths[0] / widths[1] == pytest.approx(2.776 / 1.960 * 1.25**0.5, rel=0.03)
