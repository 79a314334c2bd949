"""mmn: what it is at the ends of its knobs, and that its head is the minimum that the row prior asks for."""

import jax
import numpy as np
import pytest
from conftest import blobs
from scipy.special import softmax

from mmn_jax import mmn, rivals
from mmn_jax.classes import Shrinkage, bayesian_rows, class_means, class_model
from mmn_jax.evaluate import predict_logits
from mmn_jax.tuning import RowPrior, make_task
from mmn_jax.types import Examples

COUNTS = np.array([50, 20, 8, 4, 2, 1])
X, Y = blobs(0, COUNTS, 8, spread=2.0)
TASK = make_task(Examples(X, Y), jax.random.key(0), 1e-6)
SETTING = {"l2": 1e-2, "shrinkage": 0.6, "alpha": 0.2, "tau": 1.0}


def rows(**knobs):
    return mmn.fit(TASK, SETTING | knobs).arrays["theta"]


def test_with_nothing_learned_and_nothing_mixed_it_is_logit_adjustment():
    theirs = rivals.methods((1e-2,))["logit_adjustment"].fit(TASK, {"l2": 1e-2, "standardised": False, "tau": 1.25}).arrays["theta"]
    ours = rows(shrinkage=1.0, alpha=0.0, tau=1.25)
    logits = [predict_logits(theta - theta.mean(0), X) for theta in (ours, theirs)]
    np.testing.assert_allclose(*logits, atol=1e-3)


def test_mixed_all_the_way_it_decides_as_the_bayesian_rows():
    model = class_model(TASK.train, Shrinkage(0.6, 0.6))
    bayes = predict_logits(bayesian_rows(model, class_means(X, Y, 6), COUNTS), X)
    np.testing.assert_array_equal(predict_logits(rows(alpha=1.0), X).argmax(1), bayes.argmax(1))


def test_its_head_is_stationary_under_the_row_prior():
    scaling = RowPrior(Shrinkage(0.5, 0.5))
    theta = TASK.head("plain", rivals.weighting.plain, 1e-2, scaling).theta.astype(float)
    metric = TASK.metric(scaling).astype(float)
    residual = softmax(predict_logits(theta, X), axis=1) - np.eye(6)[Y]
    prior = theta[:, :-1] @ np.linalg.inv(metric @ metric.T)
    np.testing.assert_allclose(residual.T @ X / len(Y) + 1e-2 * prior, 0, atol=1e-4)
    np.testing.assert_allclose(residual.mean(0), 0, atol=1e-5)


def test_the_scale_of_the_features_does_not_matter_to_the_mix():
    first = mmn.mix_rows(np.eye(3, 4), np.eye(3, 4)[::-1], 0.3)
    np.testing.assert_allclose(mmn.mix_rows(np.eye(3, 4), 50 * np.eye(3, 4)[::-1], 0.3), first)


@pytest.mark.parametrize("counts", [[1, 1], [1, 1, 1, 1], [30, 1]])
def test_tiny_problems_have_an_answer(counts):
    task = make_task(Examples(*blobs(1, counts, 5)), jax.random.key(0), 1e-5)
    for shrinkage in (1.0, 0.3):
        fitted = mmn.fit(task, SETTING | {"shrinkage": shrinkage})
        assert np.isfinite(fitted.arrays["theta"]).all() and fitted.gradient_norm <= 1e-5
