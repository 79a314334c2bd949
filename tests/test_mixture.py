"""The mixture of heads: stationary by an independent formula, the same in any order, and defined without data."""

import jax
import numpy as np
import pytest
from conftest import blobs
from scipy.optimize import minimize
from scipy.special import log_softmax

from mmn_jax.linear.rows import predict_logits
from mmn_jax.methods import stacking
from mmn_jax.methods.stacking import HeldOut, Mixture, fit_mixture, mix
from mmn_jax.types import Examples

CLASSES, DIM, HEADS, TRAITS = 5, 4, 3, 2
RNG = np.random.default_rng(0)
HELD = Examples(*blobs(1, [9, 7, 4, 2, 1], DIM, spread=1.5))
THETA = RNG.normal(size=(HEADS, CLASSES, DIM + 1))
PHI = RNG.normal(size=(TRAITS, CLASSES))


def part_of(theta, traits, held):
    return HeldOut(np.stack([predict_logits(rows, held.x) for rows in theta]), traits, held.y)


PART = part_of(THETA, PHI, HELD)


def numbers(fitted):
    return np.concatenate([fitted.share.ravel(), fitted.bias])


def objective(values, kappa):
    """The formula at the top of stacking.py, in numpy and float64."""
    share, bias = values[: HEADS * (1 + TRAITS)].reshape(HEADS, -1), values[HEADS * (1 + TRAITS) :]
    logits = np.zeros((len(HELD.y), CLASSES))
    for c in range(CLASSES):
        for h in range(HEADS):
            logits[:, c] += share[h] @ [1, *PHI[:, c]] * (HELD.x @ THETA[h, c, :-1] + THETA[h, c, -1])
        logits[:, c] += bias @ [*PHI[:, c], PHI[0, c] ** 2]
    losses = -log_softmax(logits, axis=1)[np.arange(len(HELD.y)), HELD.y]
    away = values.copy()
    away[: HEADS * (1 + TRAITS)].reshape(HEADS, -1)[:, 0] -= 1 / HEADS
    return np.mean([losses[HELD.y == c].mean() for c in range(CLASSES)]) + kappa / 2 * away @ away


@pytest.mark.parametrize("kappa", [0.02, 0.2])
def test_it_is_the_minimum_of_its_objective(kappa):
    found = numbers(fit_mixture([PART], kappa))
    least = minimize(objective, found, kappa, method="BFGS", tol=1e-8).fun
    assert objective(found, kappa) < least + 2 * stacking.LEFT


def test_rows_are_mixed_as_logits_are():
    fitted = Mixture(RNG.normal(size=(HEADS, 1 + TRAITS)), RNG.normal(size=TRAITS + 1))
    share = fitted.share @ np.stack([np.ones(CLASSES), *PHI])
    wanted = sum(share[h] * predict_logits(THETA[h], HELD.x) for h in range(HEADS)) + fitted.bias @ np.stack([*PHI, PHI[0] ** 2])
    np.testing.assert_allclose(predict_logits(mix(fitted, THETA, PHI), HELD.x), wanted, rtol=1e-4, atol=1e-4)


def test_neither_parts_nor_chunks_matter(monkeypatch):
    whole = numbers(fit_mixture([PART], 0.2))
    halves = [part_of(THETA, PHI, Examples(HELD.x[i::2], HELD.y[i::2])) for i in range(2)]
    np.testing.assert_allclose(numbers(fit_mixture(halves, 0.2)), whole, atol=2e-3)
    monkeypatch.setattr(stacking, "CHUNK_FLOATS", 200)
    np.testing.assert_allclose(numbers(fit_mixture([PART], 0.2)), whole, atol=2e-3)


def test_the_order_of_classes_and_examples_does_not_matter():
    order, shuffle = RNG.permutation(CLASSES), RNG.permutation(len(HELD.y))
    place = np.argsort(order).astype(np.int32)
    other = part_of(THETA[:, order], PHI[:, order], Examples(HELD.x[shuffle], place[HELD.y[shuffle]]))
    np.testing.assert_allclose(numbers(fit_mixture([other], 0.2)), numbers(fit_mixture([PART], 0.2)), atol=2e-3)


def test_a_strong_prior_gives_the_mean_of_the_heads():
    np.testing.assert_allclose(mix(fit_mixture([PART], 1e9), THETA, PHI), THETA.mean(0), atol=1e-5)


def test_it_finds_which_head_is_right_for_which_classes():
    rng = np.random.default_rng(3)
    right, wrong = rng.normal(size=(2, 40, 9)) * 2
    few = np.linspace(-1.5, 1.5, 40)  # below 0 the first head is right, above 0 the second one
    truth = np.where(few[:, None] < 0, right, wrong)
    x = rng.normal(size=(4000, 8)).astype(np.float32)
    logits = predict_logits(truth, x)
    y = (logits + rng.gumbel(size=logits.shape)).argmax(1).astype(np.int32)
    theta, traits = np.stack([right, wrong]), few[None]
    fitted = fit_mixture([part_of(theta, traits, Examples(x[:2000], y[:2000]))], 1e-3)
    share = fitted.share @ np.stack([np.ones(40), few])
    assert (np.diff(share[0]) < 0).all() and (np.diff(share[1]) > 0).all()
    accuracy = [(predict_logits(rows, x[2000:]).argmax(1) == y[2000:]).mean() for rows in (mix(fitted, theta, traits), *theta)]
    assert accuracy[0] > max(accuracy[1:]) + 0.1


def test_a_class_without_held_out_examples_is_mixed_by_its_traits():
    seen = Examples(HELD.x[HELD.y < 4], HELD.y[HELD.y < 4])
    assert np.isfinite(mix(fit_mixture([part_of(THETA, PHI, seen)], 0.2), THETA, PHI)).all()


def test_without_held_out_examples_every_head_counts_the_same():
    nothing = part_of(THETA, PHI, Examples(HELD.x[:0], HELD.y[:0]))
    np.testing.assert_allclose(mix(fit_mixture([nothing], 0.2), THETA, PHI), THETA.mean(0), atol=1e-6)


def test_no_number_is_left_on_a_device():
    fitted = fit_mixture([PART], 0.2)
    assert not any(isinstance(array, jax.Array) for array in fitted)
