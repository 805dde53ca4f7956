"""Sampling: shares of positives, and negatives that are drawn anew each epoch."""

import numpy as np
import pytest
from pydantic import ValidationError

from cxr.training.cropping import keyed_rng
from cxr.training.sampling import Sampling, balance_batches, draw_epoch_rows, split_into_batches

POSITIVE = np.arange(40) < 6


def rows(epoch: int = 0, **settings) -> np.ndarray:
    return draw_epoch_rows(Sampling(**settings), POSITIVE, epoch, 4, 8, keyed_rng(1, epoch))


def test_each_batch_has_its_share_of_positives():
    for epoch in range(3):
        found = balance_batches(POSITIVE, 0.5, 8, keyed_rng(1, epoch)).reshape(-1, 8)
        assert (POSITIVE[found].sum(1) == 4).all()
    everyone = balance_batches(POSITIVE, 0.5, 8, keyed_rng(1, 0))
    assert set(np.flatnonzero(POSITIVE)) <= set(everyone)


@pytest.mark.parametrize(("share", "batch"), [(0.6, 4), (0.4, 2), (0.7, 12), (0.3, 1), (0.22, 8)])
def test_an_epoch_has_the_share_even_where_a_batch_cannot(share, batch):
    positive = np.arange(600) < 100
    found = positive[balance_batches(positive, share, batch, keyed_rng(1))].reshape(-1, batch)
    assert found.mean() == pytest.approx(share, abs=1 / 600)
    assert np.ptp(found.sum(1)) <= 1


def test_one_class_alone_is_no_error():
    assert sorted(balance_batches(np.zeros(5, bool), 0.5, 2, keyed_rng(1))) == [0, 1, 2, 3, 4]


def test_short_last_batch_is_dropped_unless_it_is_the_only_one():
    ids = list("abcdefg")
    assert [len(batch) for batch in split_into_batches(ids, np.arange(7), 3)] == [3, 3]
    assert split_into_batches(ids, np.arange(7), 10) == [ids]
    assert split_into_batches(ids, np.arange(7), 3, max_batches=1) == [["a", "b", "c"]]


def test_everything_once_by_default():
    assert sorted(rows()) == list(range(40))


def test_the_share_slides_in_parts_or_evenly():
    in_parts = Sampling(positive_share=[0.8, 0.6, 0.4])
    assert [in_parts.share_in_epoch(epoch, 6) for epoch in range(6)] == [0.8, 0.8, 0.6, 0.6, 0.4, 0.4]
    evenly = Sampling(positive_share=[0.8, 0.2], path="linear")
    assert [evenly.share_in_epoch(epoch, 4) for epoch in range(4)] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert evenly.share_in_epoch(0, 1) == 0.8
    last = rows(3, positive_share=[0.75, 0.25]).reshape(-1, 8)
    assert (POSITIVE[last].sum(1) == 2).all()


def test_positives_alone():
    assert sorted(rows(positives_only=True)) == [0, 1, 2, 3, 4, 5]


def test_negatives_are_dropped_with_a_probability_and_anew():
    counts = [len(rows(epoch, drop_negatives=0.5)) - 6 for epoch in range(200)]
    assert np.mean(counts) == pytest.approx(17, abs=0.8)
    assert set(rows(0, drop_negatives=0.5)) != set(rows(1, drop_negatives=0.5))


def test_negatives_are_as_many_as_asked_for_and_drawn_anew():
    first, second = (rows(epoch, negatives_per_positive=1, extra_negatives=3) for epoch in (0, 1))
    assert POSITIVE[first].sum() == 6
    assert len(first) == len(set(first)) == 6 + 9
    assert set(first) != set(second)
    assert len(rows(negatives_per_positive=1, extra_negatives=1000)) == 40  # no more than there are


def test_settings_that_cannot_go_together_are_refused():
    with pytest.raises(ValidationError, match="no negatives for drop_negatives"):
        Sampling(positives_only=True, drop_negatives=0.5)
    with pytest.raises(ValidationError, match="needs negatives_per_positive"):
        Sampling(extra_negatives=1000)


def test_shares_are_between_0_and_1():
    for wrong in (0.0, 1.0, [0.5, 1.5]):
        with pytest.raises(ValidationError):
            Sampling(positive_share=wrong)
