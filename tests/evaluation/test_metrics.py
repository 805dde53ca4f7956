import numpy as np
import pytest
from sklearn import metrics as reference

from evaluation import metrics

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("digits", [1, 2, 6])
@pytest.mark.parametrize("count", [2, 7, 200])
def test_auc_and_log_loss_are_those_of_scikit_learn(count, digits):
    labels = np.arange(count) % 3 == 0
    probs = DRAW.random(count).round(digits)  # few digits: many ties
    assert metrics.roc_auc(labels, probs) == pytest.approx(reference.roc_auc_score(labels, probs), abs=1e-12)
    clipped = np.clip(probs, 1e-7, 1 - 1e-7)
    assert metrics.log_loss(labels, probs) == pytest.approx(reference.log_loss(labels, clipped), rel=1e-6)


@pytest.mark.parametrize("labels", [[], [0], [1, 1], [0, 0, 0]])
def test_auc_of_one_class_is_undefined(labels):
    assert metrics.roc_auc(np.array(labels), np.full(len(labels), 0.5)) is None


def test_auc_within_groups_counts_the_pairs_of_each():
    labels, probs = np.array([0, 1, 0, 1, 1, 0]), np.array([0.1, 0.2, 0.9, 0.3, 0.95, 0.5])
    group = np.array([0, 0, 1, 1, 1, 2])
    pairs = [(i, j) for i in range(6) for j in range(6) if labels[i] > labels[j] and group[i] == group[j]]
    expected = np.mean([probs[i] > probs[j] for i, j in pairs])
    assert metrics.roc_auc_within_groups(labels, probs, group) == pytest.approx(expected)
    assert metrics.roc_auc_within_groups(labels, probs, np.arange(6)) is None
    assert metrics.roc_auc_within_groups(labels, probs, np.zeros(6)) == pytest.approx(metrics.roc_auc(labels, probs))


def test_labels_and_scores_must_belong_together():
    with pytest.raises(ValueError, match="shape"):
        metrics.roc_auc(np.zeros(3), np.zeros(4))


def test_dice_of_masks():
    truth, found = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    assert metrics.dice_of_masks(truth, found) == 1
    found[0, :2] = 1
    assert metrics.dice_of_masks(truth, found) == 0
    truth[0, 1:3] = 255
    assert metrics.dice_of_masks(truth, found) == pytest.approx(0.5)
    assert metrics.dice_of_masks(truth, truth) == 1


def test_dice_of_areas_is_dice_of_masks():
    truth, found = DRAW.random((2, 20, 5, 5)) < np.array([0.1, 0.2])[:, None, None, None]
    areas = truth.sum((1, 2)), found.sum((1, 2)), (truth & found).sum((1, 2))
    expected = [metrics.dice_of_masks(*pair) for pair in zip(truth, found, strict=True)]
    np.testing.assert_allclose(metrics.dice_of_areas(*areas), expected)


def test_both_meanings_of_dice_and_the_floor():
    labels, dices = np.array([0, 0, 0, 1]), np.array([1, 1, 0, 0.4])
    assert metrics.kaggle_dice(dices) == pytest.approx(0.6)
    assert metrics.positives_dice(labels, dices) == pytest.approx(0.4)
    assert metrics.empty_submission_dice(labels) == 0.75


def test_nothing_to_measure_is_undefined():
    none = np.empty(0)
    assert metrics.kaggle_dice(none) is metrics.empty_submission_dice(none) is metrics.log_loss(none, none) is None
    assert metrics.positives_dice(np.zeros(3), np.ones(3)) is None


def test_thirds_of_size():
    areas = np.array([0, 5, 1, 0, 4, 2, 3, 6])
    assert metrics.size_thirds(areas).tolist() == [-1, 2, 0, -1, 1, 0, 1, 2]
    assert metrics.size_thirds(np.array([7.0])).tolist() == [0]
    assert metrics.size_thirds(np.zeros(2)).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8734, ".873"),
        (1.0, "1.000"),
        (0.0, ".000"),
        (-0.12, "-.120"),
        (0.99999, "1.000"),
        (None, "–"),
        (np.nan, "–"),
        (-0.0004, ".000"),
        (-0.0, ".000"),
        (np.float32(-0.0006), "-.001"),
        (-1, "-1.000"),
    ],
)
def test_shown(value, text):
    assert metrics.format_metric(value) == text
