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
from mmn_jax.methods.contract import tune
from mmn_jax.methods.folds import Fold
from mmn_jax.methods.stacking import class_weights, fit_mixture, mix
from mmn_jax.methods.tasks import RowPrior, make_task
from mmn_jax.types import Examples

COUNTS = np.array([50, 20, 8, 4, 2, 1])
X, Y = blobs(0, COUNTS, 8, spread=2.0)
HELD = Examples(*blobs(0, [5] * 6, 8, spread=2.0))
TASK = make_task(Examples(X, Y), jax.random.key(0), 1e-6)
GRID = (1e-1, 1e-2, 1e-3)


MEMBERS = mmn.default_members(GRID)
METHOD = mmn.method(MEMBERS, GRID)
MIXED = {"kappa": 0.3, "alone": None}


def mixed(task, **knobs):
    return METHOD.fit(task, MIXED | knobs).arrays["theta"]


def test_the_first_member_is_logit_adjustment():
    theirs = rivals.methods((1e-2,))["logit_adjustment"].fit(TASK, {"l2": 1e-2, "standardised": False, "tau": 1.0}).arrays["theta"]
    np.testing.assert_array_equal(mmn.fit_member(TASK, mmn.Member(mmn.NO_PRIOR, 1e-2)).arrays["theta"], theirs)


def test_a_ridge_alone_is_logit_adjustment():
    setting = {"l2": 1e-2, "standardised": False, "tau": 1.0}
    theirs = rivals.methods((1e-2,))["logit_adjustment"].fit(TASK, setting).arrays["theta"]
    np.testing.assert_array_equal(mixed(TASK, alone=1e-2), theirs)


def test_no_default_member_comes_twice():
    members = mmn.default_members((1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9))
    assert len(members) == 18 and len(set(members)) == 18


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
    other = make_task(Examples(X, Y), jax.random.key(0), 1e-6)
    fold = Fold("x", other.train, Examples(HELD.x + 9, HELD.y[::-1]))
    tune(METHOD, lambda name: (other, other), [fold], fold, 18)
    np.testing.assert_array_equal(mixed(other), theta)


def test_folds_share_what_they_learned():
    """The final rows are the mean of what each fold's mixture makes of the final heads."""
    folds = tuple(make_task(TASK.train.at(np.arange(len(Y)) % 3 != i), jax.random.key(i), 1e-6) for i in range(3))
    learned = [mmn._learn(MEMBERS, fold, 0.3) for fold in folds]
    heads = mmn._rows(TASK, MEMBERS)[0]
    each = [mix(mixture, heads * scale, mmn._traits(COUNTS, COUNTS)) for mixture, scale in learned]
    np.testing.assert_allclose(mixed(TASK._replace(folds=folds)), np.mean(each, axis=0), atol=1e-6)
    assert not np.allclose(each[0], each[1], atol=1e-3)


def test_a_strong_prior_of_the_weights_gives_every_member_the_same():
    weights = METHOD.fit(TASK, MIXED | {"kappa": 1e7}).arrays["weights"]
    np.testing.assert_allclose(weights, 1 / len(MEMBERS), atol=1e-4)


def test_fewer_classes_hold_the_weights_more_to_equal_ones():
    held, _ = mmn._cooled(TASK, MEMBERS)
    expected = class_weights(fit_mixture(held, 0.3 * 250 / 6), mmn._traits(COUNTS, COUNTS))
    np.testing.assert_allclose(METHOD.fit(TASK, MIXED).arrays["weights"], expected, atol=1e-6)


@pytest.mark.parametrize("counts", [[1, 1], [1, 1, 1, 1], [30, 1], [3, 3, 3]])
def test_tiny_problems_have_an_answer(counts):
    task = make_task(Examples(*blobs(1, counts, 5)), jax.random.key(0), 1e-5)
    assert np.isfinite(mixed(task)).all()
