"""Cores that are shared: a training says so once, and its threads sleep soon while they wait for each other."""

import importlib
import os

import pytest

import cxr
from cxr.progress import ProgressLine
from cxr.training import core_contention


@pytest.fixture
def steps(monkeypatch, capsys):
    """A function that watches a step a minute, by seconds run and waited until then; what was said, line by line."""
    monkeypatch.setenv("OMP_NUM_THREADS", "4")

    def watch(times: list[tuple[float, float]]) -> list[str]:
        cores, minutes = core_contention.ContentionMonitor(), iter(range(60, 60 * 99, 60))
        for each in times:
            monkeypatch.setattr(core_contention, "core_times", lambda each=each: each)
            monkeypatch.setattr(core_contention.time, "monotonic", lambda: next(minutes))
            cores.warn_if_shared(ProgressLine("a member"))
        return capsys.readouterr().err.splitlines()

    return watch


def test_it_is_said_once_with_the_share_of_the_last_window_and_how_many_threads_fit(steps):
    said = steps([(500, 900), (560, 902), (590, 932), (620, 992), (650, 1052)])
    assert len(said) == 1
    assert said[0].startswith("a member: the cores are shared with other work: its threads get one in 50% of the time")
    assert "OMP_NUM_THREADS=2" in said[0]


def test_a_training_that_has_its_cores_says_nothing_nor_one_on_a_system_that_does_not_count(steps):
    assert steps([(0, 0), (60, 6), (120, 20), (180, 35)]) == []
    assert steps([(0, 0)] * 4) == []


def test_linux_counts_what_a_thread_runs():
    before, _ = core_contention.core_times()
    while core_contention.core_times()[0] < before + 0.05:
        pass


@pytest.mark.parametrize(
    ("asked", "spins"), [({}, "10000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")]
)
def test_threads_sleep_soon_unless_the_user_says_how_they_wait(monkeypatch, asked, spins):
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    monkeypatch.setattr(os, "environ", environment | asked)
    importlib.reload(cxr)
    assert os.environ.get("GOMP_SPINCOUNT") == spins
