"""The Gaussian model of classes against the general formulas, and its limits of no and of full shrinkage."""

import numpy as np
import pytest
from conftest import blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from mmn_jax.linear.class_model import Shrinkage, bayesian_rows, class_means, class_model, row_prior_metric
from mmn_jax.linear.rows import predict_logits
from mmn_jax.types import Normalised

COUNTS = np.array([60, 30, 12, 9, 5, 3, 2, 1])
TRAIN = Normalised(*blobs(0, COUNTS, 5))
MEANS = np.stack([TRAIN.x[c == TRAIN.y].mean(0, dtype=float) for c in range(len(COUNTS))])


def covariances(model):
    """A, B from the basis that diagonalises both."""
    inverse = np.linalg.inv(model.basis)
    return inverse.T @ inverse, (inverse.T * model.spread) @ inverse


def test_class_means_are_those_of_the_examples_of_each_class():
    np.testing.assert_allclose(class_means(*TRAIN, len(COUNTS)), MEANS, rtol=1e-12)


def test_the_basis_diagonalises_the_pooled_within_class_covariance():
    within, _ = covariances(class_model(TRAIN, Shrinkage(0.0, 0.5)))
    residual = TRAIN.x - MEANS[TRAIN.y]
    np.testing.assert_allclose(within, residual.T @ residual / (len(TRAIN.y) - len(COUNTS)), rtol=1e-4, atol=1e-6)


def test_a_bayesian_row_is_the_gaussian_posterior_mean_in_the_metric_of_a():
    model = class_model(TRAIN, Shrinkage(0.2, 0.2))
    within, between = covariances(model)
    rows = bayesian_rows(model, MEANS, COUNTS)
    for mean, n, row in zip(MEANS, COUNTS, rows, strict=True):
        v = between @ np.linalg.solve(between + within / n, mean - model.centre)
        w = np.linalg.solve(within, v)
        np.testing.assert_allclose(row[:-1], w, rtol=1e-5, atol=1e-8)
        assert row[-1] == pytest.approx(-0.5 * v @ w - w @ model.centre, rel=1e-5)


def test_decisions_are_those_of_the_gaussian_likelihoods():
    model = class_model(TRAIN, Shrinkage(0.2, 0.2))
    within, between = covariances(model)
    gain = [between @ np.linalg.inv(between + within / n) for n in COUNTS]
    centres = np.stack([model.centre + g @ (mean - model.centre) for g, mean in zip(gain, MEANS, strict=True)])
    apart = TRAIN.x[:, None] - centres
    likelihood = -0.5 * np.einsum("ncd,de,nce->nc", apart, np.linalg.inv(within), apart)
    np.testing.assert_array_equal(predict_logits(bayesian_rows(model, MEANS, COUNTS), TRAIN.x).argmax(1), likelihood.argmax(1))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(2, 1000))
def test_more_examples_move_a_row_further_from_nothing_and_never_past_its_mean(n, factor):
    model = class_model(TRAIN, Shrinkage(0.1, 0.1))
    few, more, all_of_them = (
        np.linalg.norm(np.linalg.solve(model.basis, bayesian_rows(model, MEANS[:1], np.array([k]))[0, :-1])) for k in (n, n * factor, 10**9)
    )
    assert few < more <= all_of_them * (1 + 1e-9)


def test_between_class_covariance_is_what_the_noise_of_the_means_does_not_explain():
    rng = np.random.default_rng(0)
    counts = rng.integers(2, 30, 3000)
    truth = np.diag([4.0, 1.0, 0.25])
    y = np.repeat(np.arange(len(counts)), counts)
    x = (rng.normal(size=(len(counts), 3)) @ np.sqrt(truth))[y] + rng.normal(size=(len(y), 3))
    within, between = covariances(class_model(Normalised(x.astype(np.float32), y), Shrinkage(0.0, 0.0)))
    np.testing.assert_allclose(within, np.eye(3), atol=0.05)
    np.testing.assert_allclose(between, truth, atol=0.25)


def test_the_metric_is_the_root_of_the_row_prior_and_nothing_special_when_all_is_shrunk():
    model = class_model(TRAIN, Shrinkage(0.3, 0.3))
    within, between = covariances(model)
    metric = row_prior_metric(model)
    np.testing.assert_allclose(metric @ metric.T, np.linalg.inv(within) @ between @ np.linalg.inv(within), rtol=1e-6, atol=1e-9)
    flat = row_prior_metric(class_model(TRAIN, Shrinkage(1.0, 1.0)))
    np.testing.assert_allclose(flat, flat[0, 0] * np.eye(5), atol=1e-9 * flat[0, 0])


@pytest.mark.parametrize("counts", [[1, 1, 1], [1, 2], [40, 1]])
@pytest.mark.parametrize("dim", [1, 30])
def test_degenerate_problems_give_finite_rows(counts, dim):
    train = Normalised(*blobs(3, counts, dim))
    model = class_model(train, Shrinkage(0.6, 0.6))
    rows = bayesian_rows(model, class_means(*train, len(counts)), np.array(counts))
    assert np.isfinite(rows).all() and np.isfinite(row_prior_metric(model)).all()


@pytest.mark.parametrize("x", [np.repeat(np.eye(3), 2, 0), np.tile([[1.0], [-1.0]], (3, 1)), np.zeros((6, 2))])
def test_examples_or_means_that_are_all_alike_have_a_model(x):
    train = Normalised(x.astype(np.float32), np.repeat(np.arange(3), 2).astype(np.int32))
    model = class_model(train, Shrinkage(0.5, 0.5))
    rows = bayesian_rows(model, class_means(*train, 3), np.full(3, 2))
    assert np.isfinite(rows).all() and np.isfinite(row_prior_metric(model)).all()
