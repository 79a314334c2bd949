"""Choosing on validation data: normalisation, scaling folded back, heads that don't depend on what was solved before, the search."""

import jax
import numpy as np
import pytest
from conftest import blobs

from mmn_jax import tuning, weighting
from mmn_jax.evaluate import predict_logits
from mmn_jax.rivals import methods
from mmn_jax.tuning import Axis, Trial
from mmn_jax.types import BadInput, Examples
from mmn_jax.weighting import Weighting

X, Y = blobs(0, [20, 10, 6], 5)
TRAIN = Examples(X, Y)
UNIFORM = Weighting(np.ones(len(Y), np.float32), np.zeros(3, np.float32))
ONES = np.ones(5, np.float32)
ZEROS = np.zeros((3, 6), np.float32)


def test_normalised_features_are_centred_at_unit_mean_square_norm():
    raw = 1e4 + 37.0 * X.astype(np.float32)
    x = tuning.normalisation(raw)(raw)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)
    assert (x.astype(float) ** 2).sum(1).mean() == pytest.approx(1, rel=1e-4)


def test_a_single_point_cannot_be_normalised():
    with pytest.raises(BadInput, match="same point"):
        tuning.normalisation(np.ones((5, 3), np.float32))


def test_standardising_is_folded_back_into_the_rows():
    stretched = X * np.array([1, 10, 0.1, 1, 0], np.float32)
    metric = tuning.standardised(tuning.make_task(Examples(stretched, Y), jax.random.key(0), 1e-3))
    assert np.isfinite(metric).all()
    folded, _ = tuning.fit_weighted(Examples(stretched, Y), UNIFORM, 1e-3, ZEROS, 1e-6, metric)
    direct, _ = tuning.fit_weighted(Examples(stretched * metric, Y), UNIFORM, 1e-3, ZEROS, 1e-6, ONES)
    np.testing.assert_allclose(predict_logits(folded, stretched), predict_logits(direct, stretched * metric), atol=1e-3)


def test_examples_of_weight_zero_are_left_out():
    weight = (np.arange(len(Y)) % 2 == 0).astype(np.float32)
    masked, _ = tuning.fit_weighted(TRAIN, Weighting(weight, UNIFORM.offset), 1e-2, ZEROS, 1e-6, ONES)
    kept = weight > 0
    cut, _ = tuning.fit_weighted(Examples(X[kept], Y[kept]), Weighting(weight[kept], UNIFORM.offset), 1e-2, ZEROS, 1e-6, ONES)
    np.testing.assert_allclose(masked, cut, atol=1e-4)


def test_a_head_is_the_same_bits_whatever_was_solved_before():
    wanted = ("cost_sensitive", weighting.cost_sensitive, 1e-5, tuning.unscaled)
    first = tuning.make_task(TRAIN, jax.random.key(0), 1e-4).head(*wanted)
    other = tuning.make_task(TRAIN, jax.random.key(0), 1e-4)
    for l2 in (1e-5, 1e-2, 3.16e-4):
        other.head("plain", weighting.plain, l2, tuning.standardised)
    np.testing.assert_array_equal(other.head(*wanted).theta, first.theta)


def test_a_head_started_elsewhere_is_the_same_optimum():
    task = tuning.make_task(TRAIN, jax.random.key(0), 1e-4)
    fine = tuning.make_task(TRAIN, jax.random.key(0), 1e-6, task)
    for name, rule in (("plain", weighting.plain), ("cost_sensitive", weighting.cost_sensitive)):
        head = fine.head(name, rule, 1e-3, tuning.unscaled)
        direct, _ = tuning.fit_weighted(TRAIN, rule(task.key, Y, task.counts), 1e-3, ZEROS, 1e-6, ONES)
        assert head.gradient_norm <= 1e-6
        np.testing.assert_allclose(head.theta, direct, atol=2e-3)


def halves(a, b):
    return (a + b) / 2 if abs(a - b) > 0.5 else None


AXES = (Axis("a", (0.0, 2.0, 4.0, 6.0), 0.0, halves), Axis("b", (False, True), False), Axis("c", (1.0, 2.0, 3.0), 2.0, halves))


def bowl(setting):
    return -abs(setting["a"] - 3.4) - abs(setting["c"] - 1.6) + setting["b"]


def test_the_search_finds_the_best_of_the_refined_grid():
    trials = tuning.search(bowl, AXES, 100)
    assert tuning.best(trials).setting == {"a": 3.5, "b": True, "c": 1.5}
    settings = [tuple(trial.setting.values()) for trial in trials]
    assert len(set(settings)) == len(settings) < 100


@pytest.mark.parametrize("budget", [1, 7, 12])
def test_the_search_keeps_to_its_budget_and_to_its_order(budget):
    trials = tuning.search(bowl, AXES, budget)
    assert trials == tuning.search(bowl, AXES, 100)[:budget]


def test_a_tie_goes_to_the_setting_tried_first():
    trials = [Trial({"a": 1}, 50.0), Trial({"a": 2}, 60.0), Trial({"a": 3}, 60.0 + 1e-12)]
    assert tuning.best(trials).setting == {"a": 2}


def test_choices_at_the_end_of_a_grid_are_named():
    assert tuning.at_edge({"a": 0.0, "b": True, "c": 2.0}, AXES) == ["a"]


def test_grids_are_refined_to_half_decades_and_then_done():
    tried = tuning.search(lambda setting: -abs(np.log10(setting["l2"]) + 3.4), methods((1e-2, 1e-3, 1e-4))["plain"].axes, 100)
    assert tuning.best(tried).setting["l2"] == 3.16e-4 and len(tried) < 15


def test_held_out_predictions_are_judged_together():
    folds = [tuning.Fold("a", TRAIN, Examples(X[:2], np.array([0, 1]))), tuning.Fold("b", TRAIN, Examples(X[:2], np.array([0, 0])))]
    logits = [np.eye(3)[[0, 0]], np.eye(3)[[0, 1]]]  # class 0: two of three right; class 1: none of one
    assert tuning.held_accuracy(logits, folds) == pytest.approx(100 * (2 / 3 + 0) / 2)


def test_a_fold_that_would_learn_from_one_point_is_dropped():
    train = Examples(np.array([[0.0], [1.0], [0.0]], np.float32), np.array([0, 0, 1], np.int32))
    (fold,) = tuning.training_folds("x", train, 0, 3)
    assert fold.val.x.tolist() == [[0.0]] and sorted(fold.train.x.ravel()) == [0.0, 1.0]
    assert tuning.training_folds("x", Examples(train.x[1:], train.y[1:]), 0, 3) == ()
