"""Every rival against its closed form or an independent implementation, and all of them held to the Method contract."""

import jax
import numpy as np
import pytest
from conftest import blobs
from scipy.special import log_softmax, softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances

from mmn_jax.linear import weighting
from mmn_jax.linear.rows import predict_logits
from mmn_jax.methods import baselines, rivals
from mmn_jax.methods.tasks import make_task
from mmn_jax.types import Normalised

COUNTS = [40, 18, 7, 3, 1]
X, Y = blobs(0, COUNTS, 6, spread=2.0)
TASK = make_task(Normalised(X, Y), jax.random.key(0), 1e-6)
METHODS = baselines.methods((1e-2, 1e-3, 1e-4)) | rivals.methods((1e-2, 1e-3, 1e-4))


def start(method):
    return {axis.name: axis.start for axis in method.axes}


def fit(name, task=TASK, **setting):
    method = METHODS[name]
    return method.fit(task, start(method) | setting)


def theta(name, **setting):
    return fit(name, **setting).arrays["theta"]


def same_decisions(first, second, x=X):
    a, b = predict_logits(first, x), predict_logits(second, x)
    np.testing.assert_array_equal(a.argmax(1), b.argmax(1))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_scores_every_class_the_same_way_twice(name):
    method = METHODS[name]
    for setting in (start(method), {axis.name: axis.values[-1] for axis in method.axes}):
        fitted = method.fit(TASK, setting)
        logits = method.logits(fitted.arrays, X)
        assert logits.shape == (len(X), 5) and np.isfinite(logits).all()
        np.testing.assert_array_equal(logits, method.logits(method.fit(TASK, setting).arrays, X))
        assert 0 <= fitted.gradient_norm <= 1e-6


@pytest.mark.parametrize("name", METHODS)
def test_every_method_works_on_two_classes(name):
    task = make_task(Normalised(*blobs(1, [9, 3], 4)), jax.random.key(0), 1e-5)
    method = METHODS[name]
    logits = method.logits(method.fit(task, start(method)).arrays, task.train.x)
    assert logits.shape == (12, 2) and np.isfinite(logits).all() and len(np.unique(logits.argmax(1))) == 2


def gradient(rows, weight, offset, l2):
    """Computes the objective of linear/solve.py from its formula."""
    weight = weight / weight.sum()
    residual = softmax(predict_logits(rows.astype(float), X) + offset, axis=1) - np.eye(5)[Y]
    residual *= weight[:, None]
    return np.concatenate([residual.T @ X + l2 * rows[:, :-1], residual.sum(0)[:, None]], 1)


def test_the_logit_adjusted_loss_is_at_its_optimum():
    for tau in (0.5, 1.0, 2.0):
        rows = theta("logit_adjusted_loss", l2=1e-3, tau=tau)
        assert np.linalg.norm(gradient(rows, np.ones(len(Y)), tau * np.log(np.bincount(Y) / len(Y)), 1e-3)) < 1e-5


def test_with_free_biases_adjusting_in_the_loss_or_after_is_one_classifier():
    for tau in (0.5, 1.0, 2.0):
        after, inside = theta("logit_adjustment", l2=1e-3, tau=tau), theta("logit_adjusted_loss", l2=1e-3, tau=tau)
        centred = [rows - rows.mean(0) for rows in (after, inside)]
        np.testing.assert_allclose(*centred, atol=1e-3)
    np.testing.assert_array_equal(theta("balanced_softmax", l2=1e-3), theta("logit_adjusted_loss", l2=1e-3, tau=1.0))


def test_logit_adjustment_by_its_formula():
    plain, adjusted = theta("plain", l2=1e-2), theta("logit_adjustment", l2=1e-2, tau=1.5)
    expected = predict_logits(plain, X) - 1.5 * np.log(np.array(COUNTS) / sum(COUNTS))
    np.testing.assert_allclose(predict_logits(adjusted, X), expected, atol=1e-5)


def test_tau_norm_divides_rows_by_their_norm():
    rows = theta("tau_norm", l2=1e-3, tau=1.0, bias=False)
    np.testing.assert_allclose(np.linalg.norm(rows[:, :-1], axis=1), 1, atol=1e-5)
    assert not rows[:, -1].any()
    same_decisions(theta("tau_norm", l2=1e-3, tau=0.0, bias=True), theta("plain", l2=1e-3))


def test_max_norm_projects_rows_onto_the_ball():
    free, bounded = theta("max_norm", l2=1e-3, quantile=1.0), theta("max_norm", l2=1e-3, quantile=0.5)
    norms = np.linalg.norm(free[:, :-1], axis=1)
    np.testing.assert_allclose(np.linalg.norm(bounded[:, :-1], axis=1), np.minimum(norms, np.median(norms)), rtol=1e-5)
    same_decisions(free, theta("cost_sensitive", l2=1e-3))


def test_lws_is_at_the_optimum_of_its_loss():
    plain, rows = theta("plain", l2=1e-2), theta("lws", l2=1e-2, scale_ridge=0.1)
    scores = predict_logits(plain, X)
    scale = (rows / plain).mean(1)
    np.testing.assert_allclose(rows, plain * scale[:, None], atol=1e-5)

    def loss(f):
        losses = -log_softmax(scores * f, axis=1)[np.arange(len(Y)), Y]
        return np.mean([losses[c == Y].mean() for c in range(5)]) + 0.05 * np.mean((f - 1) ** 2)

    slopes = [(loss(scale + 1e-3 * e) - loss(scale - 1e-3 * e)) / 2e-3 for e in np.eye(5)]
    assert np.abs(slopes).max() < 1e-3 and loss(scale) < loss(np.ones(5))


def test_crt_goes_from_the_plain_head_to_the_balanced_one():
    np.testing.assert_allclose(theta("crt", l2=1e6, start_l2=1e-4)[:, :-1], theta("plain", l2=1e-4)[:, :-1], atol=1e-3)
    rows = theta("crt", l2=1e-3, start_l2=1e-4)
    shift = np.concatenate([rows[:, :-1] - theta("plain", l2=1e-4)[:, :-1], rows[:, -1:]], 1)
    slope = gradient(rows, 1 / np.array(COUNTS)[Y], 0.0, 0.0)
    slope[:, :-1] += 1e-3 * shift[:, :-1]
    assert np.linalg.norm(slope) < 1e-5


def test_ncm_takes_the_nearest_mean():
    means = np.stack([X[c == Y].mean(0) for c in range(5)])
    euclidean, cosine = theta("ncm", cosine=False), theta("ncm", cosine=True)
    np.testing.assert_array_equal(predict_logits(euclidean, X).argmax(1), euclidean_distances(X, means).argmin(1))
    np.testing.assert_array_equal(predict_logits(cosine, X).argmax(1), cosine_similarity(X, means).argmax(1))


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_ridge_solves_the_normal_equations(balance):
    weight = np.array(COUNTS, float)[Y] ** -balance
    weight /= weight.sum()
    mean_x, targets = weight @ X, np.eye(5)[Y]
    centred, t = X - mean_x, targets - weight @ targets
    w = np.linalg.solve((centred * weight[:, None]).T @ centred + 0.01 * np.eye(6), (centred * weight[:, None]).T @ t).T
    rows = theta("ridge", l2=0.01, balance=balance)
    np.testing.assert_allclose(rows[:, :-1], w, atol=1e-4)
    np.testing.assert_allclose(rows[:, -1], weight @ targets - w @ mean_x, atol=1e-4)


def test_lda_by_its_formula_and_with_uniform_priors_like_scikit_learn():
    means = np.stack([X[c == Y].mean(0) for c in range(5)])
    within = (X - means[Y]).T @ (X - means[Y]) / len(X)
    shrunk = 0.8 * within + 0.2 * np.trace(within) / 6 * np.eye(6)
    w = np.linalg.solve(shrunk, means.T).T
    expected = X @ w.T - 0.5 * (w * means).sum(1)
    got = predict_logits(theta("lda", shrinkage=0.2, tau=1.0), X)
    np.testing.assert_allclose(got - got.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), rtol=1e-2, atol=1e-2)
    x, y = blobs(2, [10, 10, 10], 4)
    task = make_task(Normalised(x, y), jax.random.key(0), 1e-5)
    ours = METHODS["lda"].fit(task, {"shrinkage": 0.2, "tau": 0.0, "standardised": False}).arrays["theta"]
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2).fit(x, y)
    np.testing.assert_array_equal(predict_logits(ours, x).argmax(1), model.predict(x))


def test_with_one_example_a_class_every_method_still_has_an_answer():
    task = make_task(Normalised(*blobs(4, [1, 1, 1], 4)), jax.random.key(0), 1e-5)
    for method in METHODS.values():
        assert np.isfinite(method.logits(method.fit(task, start(method)).arrays, task.train.x)).all()


def test_knn_counts_votes_by_class_size():
    method = METHODS["knn"]
    queries = np.random.default_rng(3).normal(size=(20, 6)).astype(np.float32)
    for cosine, tau in ((False, 0.0), (True, 1.0)):
        fitted = method.fit(TASK, {"neighbours": 5, "tau": tau, "cosine": cosine, "standardised": False})
        distance = 1 - cosine_similarity(queries, X) if cosine else euclidean_distances(queries, X)
        near = np.argsort(distance, axis=1)[:, :5]
        votes = np.stack([np.bincount(Y[row], minlength=5) for row in near]) / np.array(COUNTS, float) ** tau
        np.testing.assert_array_equal(method.logits(fitted.arrays, queries).argmax(1), votes.argmax(1))


def test_effective_number_runs_from_plain_to_inverse_frequency():
    counts, key = np.array(COUNTS), jax.random.key(0)
    beta = 0.9
    expected = np.array([(1 - beta) / (1 - beta**n) for n in COUNTS])
    drawn = weighting.effective_number(beta)(key, Y, counts).weight
    np.testing.assert_allclose(drawn / drawn[0], expected[Y] / expected[0], rtol=1e-5)
    np.testing.assert_allclose(weighting.effective_number(1e-9)(key, Y, counts).weight, 1, rtol=1e-4)
    inverse = weighting.cost_sensitive(key, Y, counts).weight
    np.testing.assert_allclose(weighting.effective_number(1 - 1e-9)(key, Y, counts).weight, inverse, rtol=1e-4)
    np.testing.assert_allclose(weighting.inverse_frequency(0.5)(key, Y, counts).weight, np.sqrt(inverse), rtol=1e-6)
