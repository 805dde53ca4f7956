"""No head, and no calibration, sees a row that it scores; and a head starts as the members' mean."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.metrics import roc_auc
from stage3_stack.config import DenseConfig
from stage3_stack.stacking.cross_fitting import KINDS, fit_fold_stack, predict_new_images
from stage3_stack.stacking.dense_head import HeadInput, dense_logit, fit_dense, fit_reducer, reduce_features
from stage3_stack.stacking.fold_rows import FoldRows, logit, sigmoid
from stage3_stack.stacking.saved_heads import collect_calibrations, heads_from_arrays, heads_to_arrays
from tests.stage3_stack.toy_world import small_config

HELD, NEW, SUBFOLDS = 48, 10, 3


def rows(seed: int = 0, positives: int = 18, shift: float = 1.0) -> FoldRows:
    """48 held-out rows of three subfolds and ten test rows, with a signal in logits and features."""
    draw = np.random.default_rng(seed)
    count = HELD + NEW
    labels = (np.arange(count) % HELD < positives).astype(float)
    logits = draw.normal(size=(count, 2)) + shift * labels[:, None]
    features = draw.normal(size=(count, 12)).astype(np.float32)
    features[:, 0] += 2 * shift * labels
    subfold = np.where(np.arange(count) < HELD, np.arange(count) % SUBFOLDS, -1)
    split = np.where(subfold >= 0, "train", "test")
    columns = {"header": np.stack([draw.uniform(20, 80, count), np.full(count, np.nan), np.ones(count)], axis=1)}
    known = np.where(subfold >= 0, labels, np.nan)
    return FoldRows(0, np.arange(count).astype(str), split, logits, features, known, subfold, columns)


def part(fold: FoldRows, components: int = 4) -> HeadInput:
    held = fold.is_held_out
    reducer = fit_reducer(fold.features[held], components, 0)
    return HeadInput(fold.logits[held], reduce_features(reducer, fold.features[held]), fold.labels[held], {})


@pytest.fixture(scope="module")
def stack():
    return fit_fold_stack(rows(), small_config(), seed=1)


@pytest.mark.parametrize("row", [0, 7, 20])
def test_a_label_does_not_change_the_prediction_of_its_own_row(stack, row):
    fold = rows()
    labels = fold.labels.copy()
    labels[row] = 1 - labels[row]
    poisoned = fit_fold_stack(replace(fold, labels=labels), small_config(), seed=1)
    own = fold.subfold == fold.subfold[row]
    for kind in KINDS:
        np.testing.assert_array_equal(poisoned.probs[kind][own], stack.probs[kind][own])
    others = fold.is_held_out & ~own
    assert all((poisoned.probs[kind][others] != stack.probs[kind][others]).any() for kind in KINDS)


def test_features_and_logits_of_a_row_do_not_change_the_others_that_its_head_scores(stack):
    fold = rows()
    features, logits = fold.features.copy(), fold.logits.copy()
    features[4], logits[4] = 100, -100
    changed = fit_fold_stack(replace(fold, features=features, logits=logits), small_config(), seed=1)
    others = (fold.subfold == fold.subfold[4]) & (np.arange(HELD + NEW) != 4)
    for kind in KINDS:
        np.testing.assert_array_equal(changed.probs[kind][others], stack.probs[kind][others])


def test_the_same_seed_gives_the_same_numbers(stack):
    again = fit_fold_stack(rows(), small_config(), seed=1)
    other = fit_fold_stack(rows(), small_config(), seed=2)
    assert all(np.array_equal(stack.probs[kind], again.probs[kind]) for kind in KINDS)
    assert not np.array_equal(stack.probs["dense"], other.probs["dense"])


def test_with_no_steps_the_dense_head_is_the_mean():
    fold = rows()
    config = small_config(dense=DenseConfig(steps=0, components=4))
    found = fit_fold_stack(fold, config, seed=1, kinds=("dense", "mean"))
    np.testing.assert_allclose(found.probs["dense"], found.probs["mean"], rtol=1e-12)
    whole = part(fold)
    np.testing.assert_array_equal(dense_logit(fit_dense(whole, config.dense, (1,)), whole), whole.mean_logit)


def test_a_dense_head_learns_what_the_features_add():
    fold = rows(shift=0.6)
    whole = part(fold)
    head = fit_dense(whole, DenseConfig(steps=400, lr=3e-3), (1,))
    assert roc_auc(whole.labels, dense_logit(head, whole)) > roc_auc(whole.labels, whole.mean_logit) + 0.05


def test_components_are_standardised_and_fewer_than_rows():
    features = rows().features * 50 + 7
    found = reduce_features(fit_reducer(features, 100, 0), features)
    assert found.shape == (len(features), 12)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=0.05)
    assert reduce_features(fit_reducer(features[:20], 100, 0), features).shape[1] == 5
    assert np.isfinite(reduce_features(fit_reducer(np.ones((8, 3), np.float32), 2, 0), features[:, :3])).all()


@pytest.mark.parametrize("positives", [0, 2, HELD])
def test_too_few_of_a_class_fall_back_to_the_mean_logit(positives):
    fold = rows(positives=positives)
    found = fit_fold_stack(fold, small_config(), seed=1)
    assert found.untrained_count == SUBFOLDS + SUBFOLDS * (SUBFOLDS - 1) // 2
    for kind in KINDS:
        assert np.isfinite(found.probs[kind]).all()
        np.testing.assert_array_equal(found.probs[kind], found.probs["mean"])


def test_one_subfold_alone_does_not_crash():
    fold = rows()
    found = fit_fold_stack(replace(fold, subfold=np.minimum(fold.subfold, 0)), small_config(), seed=1)
    np.testing.assert_allclose(found.probs["dense"], sigmoid(fold.logits.mean(axis=1)))


@pytest.mark.parametrize("kind", KINDS)
def test_saved_heads_give_the_same_probabilities(stack, kind, tmp_path):
    fold = rows()
    np.savez(tmp_path / "heads.npz", **heads_to_arrays({3: stack}, kind))
    with np.load(tmp_path / "heads.npz", allow_pickle=False) as stored:
        heads = heads_from_arrays(dict(stored), kind, collect_calibrations({3: stack}, kind))
    new = ~fold.is_held_out
    np.testing.assert_array_equal(predict_new_images(fold, heads[3], kind, new), stack.probs[kind][new])


def test_new_images_get_the_mean_of_all_heads(stack):
    fold = rows()
    new = ~fold.is_held_out
    each = [head.predict_probs("dense", fold, new) for head in stack.heads.values()]
    assert len(each) == SUBFOLDS
    for found, number in ((stack.probs, 0), (stack.uncalibrated_probs, 1)):
        np.testing.assert_allclose(found["dense"][new], np.mean(each, axis=0)[number])


@pytest.mark.parametrize("calibration", ["temperature", "isotonic"])
def test_no_calibration_sees_a_row_that_it_scores(calibration):
    fold, config = rows(), small_config(calibration=calibration)
    labels = fold.labels.copy()
    labels[7] = 1 - labels[7]
    kinds = ("mean",)  # no head to be trained: all that a label changes here is the calibration
    before, after = (fit_fold_stack(replace(fold, labels=each), config, 1, kinds) for each in (fold.labels, labels))
    own, others = fold.subfold == fold.subfold[7], fold.is_held_out & (fold.subfold != fold.subfold[7])
    np.testing.assert_array_equal(after.probs["mean"][own], before.probs["mean"][own])
    assert (after.probs["mean"][others] != before.probs["mean"][others]).any()
    np.testing.assert_array_equal(after.uncalibrated_probs["mean"], before.uncalibrated_probs["mean"])


def test_before_calibration_there_is_the_heads_own_logit(stack):
    fold = rows()
    own = fold.subfold == 1
    np.testing.assert_allclose(
        stack.uncalibrated_probs["dense"][own], sigmoid(stack.heads[1].predict_logits("dense", fold, own))
    )
    np.testing.assert_allclose(
        stack.uncalibrated_probs["mean"][fold.is_held_out], sigmoid(fold.logits.mean(1)[fold.is_held_out])
    )


def test_logit_and_sigmoid_are_inverse_and_finite():
    prob = np.array([0, 1e-3, 0.5, 0.999, 1])
    np.testing.assert_allclose(sigmoid(logit(prob)), prob, atol=2e-6)
    assert sigmoid(np.array([-1e4, 1e4])).tolist() == [0, 1]
