"""Which trainings need patients to validate on."""

import pytest

from cxr.training.settings import Training

FIXED = {"epochs": 3, "batch": 2, "lr": 0.1, "keep": "last"}


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
def test_a_fixed_schedule_that_keeps_its_last_weights_validates_on_nobody(schedule):
    assert not Training(**FIXED, schedule=schedule).uses_validation


@pytest.mark.parametrize("choice", [{"schedule": "plateau"}, {"early_stop": 2}, {"keep": "best"}, {"keep": "average"}])
def test_what_goes_by_a_score_validates(choice):
    assert Training(**FIXED | choice).uses_validation
