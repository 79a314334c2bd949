"""mmn: what its members are, and the mixture that it makes of them."""

import jax
import numpy as np
import pytest
from conftest import blobs
from scipy.special import softmax

from mmn_jax import mmn, rivals
from mmn_jax.classes import Shrinkage
from mmn_jax.evaluate import predict_logits
from mmn_jax.tuning import Fold, RowPrior, make_task
from mmn_jax.types import Examples

COUNTS = np.array([50, 20, 8, 4, 2, 1])
X, Y = blobs(0, COUNTS, 8, spread=2.0)
HELD = Examples(*blobs(0, [5] * 6, 8, spread=2.0))
TASK = make_task(Examples(X, Y), jax.random.key(0), 1e-6)
GRID = (1e-1, 1e-2, 1e-3)


def tuned(task, held, budget=18):
    method = mmn.method(mmn.members(GRID))
    return method.tune(method, [task], [Fold("x", task.train, held)], task, budget)


def test_the_first_member_is_logit_adjustment():
    theirs = rivals.methods((1e-2,))["logit_adjustment"].fit(TASK, {"l2": 1e-2, "standardised": False, "tau": 1.0}).arrays["theta"]
    np.testing.assert_array_equal(mmn.fit(TASK, {"l2": 1e-2, "within": 1.0, "between": 1.0}).arrays["theta"], theirs)


def test_the_default_members_keep_the_budget_of_every_method():
    members = mmn.members((1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9))
    assert len(members) == 18 and len({tuple(member.items()) for member in members}) == 18


def test_a_head_is_stationary_under_the_row_prior():
    scaling = RowPrior(Shrinkage(0.5, 0.5))
    theta = TASK.head("plain", rivals.weighting.plain, 1e-2, scaling).theta.astype(float)
    metric = TASK.metric(scaling).astype(float)
    residual = softmax(predict_logits(theta, X), axis=1) - np.eye(6)[Y]
    prior = theta[:, :-1] @ np.linalg.inv(metric @ metric.T)
    np.testing.assert_allclose(residual.T @ X / len(Y) + 1e-2 * prior, 0, atol=1e-4)
    np.testing.assert_allclose(residual.mean(0), 0, atol=1e-5)


def test_traits_rise_with_examples_and_with_distance():
    x = np.repeat([[0.0, 0], [0.1, 0], [0, 3], [9, 9]], [8, 4, 2, 2], axis=0)
    noise = np.random.default_rng(0).normal(size=x.shape) * 0.1
    task = make_task(Examples((x + noise - x.mean(0)).astype(np.float32), np.repeat([0, 1, 2, 3], [8, 4, 2, 2])), jax.random.key(0), 1e-5)
    count, distance, alone = mmn.traits(task)
    assert count[0] > count[1] > count[2] == count[3]
    assert distance.argmax() == 3 and alone.argmax() == 3
    np.testing.assert_allclose(np.stack([count, distance, alone]).std(1), 1)


def test_it_is_at_least_as_good_as_its_members_on_what_it_was_learned_from():
    found = tuned(TASK, HELD)
    assert found.record["val_accuracy"] >= max(trial["val_accuracy"] for trial in found.record["trials"])
    assert found.record["gradient_norm"] <= 1e-6 and len(found.record["trials"]) == found.record["setting"]["members"] == 12


def test_a_smaller_budget_keeps_the_first_members():
    assert tuned(TASK, HELD, 4).record["trials"] == tuned(TASK, HELD).record["trials"][:4]


def test_the_order_of_classes_does_not_matter():
    place = np.array([3, 0, 5, 1, 4, 2], np.int32)
    other = make_task(Examples(X, place[Y]), jax.random.key(0), 1e-6)
    first = predict_logits(tuned(TASK, HELD).arrays["theta"], X)
    second = predict_logits(tuned(other, Examples(HELD.x, place[HELD.y])).arrays["theta"], X)
    np.testing.assert_allclose(second[:, place], first, atol=0.02)


@pytest.mark.parametrize("counts", [[1, 1], [1, 1, 1, 1], [30, 1], [3, 3, 3]])
def test_tiny_problems_have_an_answer(counts):
    train = Examples(*blobs(1, counts, 5))
    assert np.isfinite(tuned(make_task(train, jax.random.key(0), 1e-5), train).arrays["theta"]).all()
