"""mmn: what its members are, and the mixture that it makes of them."""

import jax
import numpy as np
import pytest
from conftest import blobs
from scipy.special import softmax

from mmn_jax.evaluation.metrics import mean_class_accuracy
from mmn_jax.linear.class_model import Shrinkage
from mmn_jax.linear.rows import predict_logits
from mmn_jax.methods import mmn, rivals
from mmn_jax.methods.choosing import tune
from mmn_jax.methods.folds import Fold
from mmn_jax.methods.tasks import RowPrior, make_task
from mmn_jax.types import Normalised

COUNTS = np.array([50, 20, 8, 4, 2, 1])
X, Y = blobs(0, COUNTS, 8, spread=2.0)
HELD = Normalised(*blobs(0, [5] * 6, 8, spread=2.0))
TASK = make_task(Normalised(X, Y), jax.random.key(0), 1e-6)
GRID = (1e-1, 1e-2, 1e-3)


MEMBERS = mmn.default_members(GRID)
METHOD = mmn.method(MEMBERS, GRID)
MIXED = {"kappa": 0.3, "alone": None}


def mixed(task, **setting):
    return METHOD.fit(task, MIXED | setting).arrays["theta"]


def test_the_first_member_is_logit_adjustment():
    theirs = rivals.methods((1e-2,))["logit_adjustment"].fit(TASK, {"l2": 1e-2, "standardised": False, "tau": 1.0}).arrays["theta"]
    np.testing.assert_array_equal(mmn.fit_member(TASK, mmn.Member(mmn.NO_PRIOR, 1e-2)).arrays["theta"], theirs)


def test_a_ridge_alone_is_logit_adjustment():
    setting = {"l2": 1e-2, "standardised": False, "tau": 1.0}
    theirs = rivals.methods((1e-2,))["logit_adjustment"].fit(TASK, setting).arrays["theta"]
    np.testing.assert_array_equal(mixed(TASK, alone=1e-2), theirs)


def test_no_default_member_comes_twice():
    members = mmn.default_members((1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9))
    assert len(members) == 8 and len(set(members)) == 8


def test_a_head_is_stationary_under_the_row_prior():
    scaling = RowPrior(Shrinkage(0.5, 0.5))
    theta = TASK.head(rivals.weighting.plain, 1e-2, scaling).theta.astype(float)
    metric = TASK.metric(scaling).astype(float)
    residual = softmax(predict_logits(theta, X), axis=1) - np.eye(6)[Y]
    prior = theta[:, :-1] @ np.linalg.inv(metric @ metric.T)
    np.testing.assert_allclose(residual.T @ X / len(Y) + 1e-2 * prior, 0, atol=1e-4)
    np.testing.assert_allclose(residual.mean(0), 0, atol=1e-5)


def test_validation_examples_choose_within_the_budget():
    fold = Fold("x", TASK.train, HELD)
    found = tune(METHOD, lambda name: (TASK, TASK), [fold], fold, 18)
    assert len(found.record.trials) <= 18 and found.record.gradient_norm <= 1e-6
    accuracy = mean_class_accuracy(predict_logits(found.arrays["theta"], HELD.x), HELD.y)
    assert accuracy == found.record.val_accuracy == max(trial["val_accuracy"] for trial in found.record.trials)


def test_its_weights_come_from_training_examples_alone():
    theta = mixed(TASK)
    other = make_task(Normalised(X, Y), jax.random.key(0), 1e-6)
    fold = Fold("x", other.train, Normalised(HELD.x + 9, HELD.y[::-1]))
    tune(METHOD, lambda name: (other, other), [fold], fold, 18)
    np.testing.assert_array_equal(mixed(other), theta)


def test_the_result_of_folds_is_the_mean_of_what_each_of_them_gives():
    folds = tuple(make_task(TASK.train.at(np.arange(len(Y)) % 3 != i), jax.random.key(i), 1e-6) for i in range(3))
    each = [mixed(TASK._replace(folds=(fold,))) for fold in folds]
    np.testing.assert_allclose(mixed(TASK._replace(folds=folds)), np.mean(each, axis=0), atol=1e-6)
    assert not np.allclose(each[0], each[1], atol=1e-3)


def test_a_strong_prior_of_the_weights_gives_every_member_the_same():
    weights = METHOD.fit(TASK, MIXED | {"kappa": 1e7}).arrays["weights"]
    np.testing.assert_allclose(weights, 1 / len(MEMBERS), atol=1e-4)


def test_fewer_classes_hold_the_weights_more_to_equal_ones(monkeypatch):
    few = METHOD.fit(TASK, MIXED).arrays["weights"]
    monkeypatch.setattr(mmn, "ENOUGH", 1)
    np.testing.assert_array_equal(METHOD.fit(TASK, MIXED | {"kappa": MIXED["kappa"] * (250 / 6)}).arrays["weights"], few)
    assert np.ptp(METHOD.fit(TASK, MIXED).arrays["weights"]) > 2 * np.ptp(few)


@pytest.mark.parametrize("counts", [[1, 1], [1, 1, 1, 1], [30, 1], [3, 3, 3]])
def test_tiny_problems_have_an_answer(counts):
    task = make_task(Normalised(*blobs(1, counts, 5)), jax.random.key(0), 1e-5)
    assert np.isfinite(mixed(task)).all()
