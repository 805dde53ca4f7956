"""Learning rates over a training, against PyTorch's own schedules and the published ones."""

import numpy as np
import pytest
import torch

from cxr.training.schedule import SchedulePosition, lr_factor, scheduled_momentum
from cxr.training.settings import Training

EPOCHS, STEPS, LR = 5, 200, 0.1


def rates(**settings) -> list[float]:
    training = Training(epochs=EPOCHS, batch=1, lr=LR, **settings)
    return [
        LR * lr_factor(training, SchedulePosition(epoch, step / STEPS))
        for epoch in range(EPOCHS)
        for step in range(STEPS)
    ]


def torchs(make) -> list[float]:
    """The rates that a scheduler of PyTorch gives the steps of as long a training."""
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler, found = make(optimizer), []
    for _ in range(EPOCHS * STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_cosine_and_onecycle_are_pytorchs():
    how = torch.optim.lr_scheduler
    total = EPOCHS * STEPS
    assert np.allclose(rates(schedule="cosine"), torchs(lambda o: how.CosineAnnealingLR(o, total)))
    restarts = torchs(lambda o: how.CosineAnnealingWarmRestarts(o, total // 2, eta_min=0.01))
    assert np.allclose(rates(schedule="cosine", cycles=2, lr_min=0.01), restarts)
    # PyTorch ends the rise a step earlier.
    assert np.allclose(rates(schedule="onecycle"), torchs(lambda o: how.OneCycleLR(o, LR, total + 1)), atol=LR / STEPS)


def test_onecycle_moves_momentum_against_the_rate():
    training = Training(epochs=10, batch=1, lr=LR, schedule="onecycle")
    assert [scheduled_momentum(training, SchedulePosition(epoch, 0.0)) for epoch in (0, 3)] == pytest.approx(
        [0.95, 0.85]
    )
    assert scheduled_momentum(Training(epochs=1, batch=1, lr=LR), SchedulePosition(0, 0.0)) is None


def test_warmup_is_the_published_one():
    """3e-4 up to 3e-3 in three epochs, held for four, then times .8 an epoch towards 1e-6."""
    training = Training(
        epochs=12, batch=1, lr=3e-3, schedule="warmup", lr_start=3e-4, warmup_epochs=3, hold_epochs=4, lr_min=1e-6
    )
    found = [3e-3 * lr_factor(training, SchedulePosition(epoch, 0.5)) for epoch in range(12)]
    assert found[:3] == pytest.approx([3e-4, 1.2e-3, 2.1e-3])
    assert found[3:8] == pytest.approx([3e-3] * 5)
    assert found[8:10] == pytest.approx([2.999e-3 * 0.8 + 1e-6, 2.999e-3 * 0.64 + 1e-6])


def test_the_heads_own_epochs_are_a_course_of_their_own():
    training = Training(epochs=6, batch=1, lr=LR, schedule="onecycle", head_first=1)
    alone = Training(epochs=5, batch=1, lr=LR, schedule="onecycle")
    for epoch in range(5):
        assert lr_factor(training, SchedulePosition(epoch + 1, 0.25)) == pytest.approx(
            lr_factor(alone, SchedulePosition(epoch, 0.25))
        )
    assert lr_factor(training, SchedulePosition(0, 0.3)) == pytest.approx(1)


def test_warmup_after_the_heads_own_epochs_skips_nothing():
    training = Training(epochs=6, batch=1, lr=LR, schedule="warmup", head_first=2)
    assert [lr_factor(training, SchedulePosition(epoch, 0.5)) for epoch in range(2, 6)] == pytest.approx(
        [1, 0.8, 0.64, 0.512]
    )
    assert [lr_factor(training, SchedulePosition(epoch, 0.5)) for epoch in range(2)] == pytest.approx([1, 0.8])


def test_a_limit_of_time_hurries_the_schedule():
    training = Training(epochs=100, batch=1, lr=LR, schedule="cosine", minutes=1)
    assert lr_factor(training, SchedulePosition(1, 0.0, time_share=1.0)) == pytest.approx(0)
    assert lr_factor(training, SchedulePosition(99, 1.0, time_share=0.5)) == pytest.approx(0.5)  # nor ends it before


def test_plateau_and_constant_leave_the_rate_alone():
    assert set(rates(schedule="plateau")) | set(rates(schedule="constant")) == {LR}
