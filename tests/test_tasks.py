"""What methods learn from: normalisation, scaling folded back, heads that don't depend on what was solved before."""

import jax
import numpy as np
from conftest import blobs

from mmn_jax.linear import weighting
from mmn_jax.linear.coordinates import coordinates
from mmn_jax.linear.rows import predict_logits
from mmn_jax.linear.weighting import Weighting
from mmn_jax.methods import tasks
from mmn_jax.methods.tasks import Start, fit_weighted, make_task, standardised, unscaled
from mmn_jax.types import Normalised

X, Y = blobs(0, [20, 10, 6], 5)
TRAIN = Normalised(X, Y)
UNIFORM = Weighting(np.ones(len(Y), np.float32), np.zeros(3, np.float32))
ONES = np.ones(5, np.float32)
ZEROS = np.zeros((3, 6), np.float32)


def test_standardising_is_folded_back_into_the_rows():
    stretched = X * np.array([1, 10, 0.1, 1, 0], np.float32)
    metric = standardised(make_task(Normalised(stretched, Y), jax.random.key(0), 1e-3))
    assert np.isfinite(metric).all()
    folded, _ = fit_weighted(Normalised(stretched, Y), UNIFORM, 1e-3, Start(ZEROS), 1e-6, coordinates(metric))
    direct, _ = fit_weighted(Normalised(stretched * metric, Y), UNIFORM, 1e-3, Start(ZEROS), 1e-6, coordinates(ONES))
    np.testing.assert_allclose(predict_logits(folded, stretched), predict_logits(direct, stretched * metric), atol=1e-3)


def test_examples_of_weight_zero_are_left_out():
    weight = (np.arange(len(Y)) % 2 == 0).astype(np.float32)
    masked, _ = fit_weighted(TRAIN, Weighting(weight, UNIFORM.offset), 1e-2, Start(ZEROS), 1e-6, coordinates(ONES))
    kept = weight > 0
    part, _ = fit_weighted(
        Normalised(X[kept], Y[kept]), Weighting(weight[kept], UNIFORM.offset), 1e-2, Start(ZEROS), 1e-6, coordinates(ONES)
    )
    np.testing.assert_allclose(masked, part, atol=1e-4)


def test_a_head_whose_logits_are_too_many_is_solved_block_by_block(monkeypatch):
    x, y = blobs(1, [900, 300, 100], 5)
    arguments = (Normalised(x, y), weighting.plain(jax.random.key(0), y, np.bincount(y)), 1e-4, Start(ZEROS), 1e-6, coordinates(ONES))
    at_once, _ = fit_weighted(*arguments)
    monkeypatch.setattr(tasks, "LOGITS", 1000 * 3)
    solved_at, solve = [], tasks.fit_one

    def noting(*arguments, solver, **more):
        solved_at.append(solver.size)
        return solve(*arguments, solver=solver, **more)

    monkeypatch.setattr(tasks, "fit_one", noting)
    block_by_block, info = fit_weighted(*arguments)
    assert solved_at == [1024] and info.converged
    np.testing.assert_allclose(block_by_block, at_once, atol=1e-3 * np.abs(at_once).max())


def test_a_head_is_the_same_bits_whatever_was_solved_before():
    wanted = (weighting.cost_sensitive, 1e-5, unscaled)
    first = make_task(TRAIN, jax.random.key(0), 1e-4).head(*wanted)
    other = make_task(TRAIN, jax.random.key(0), 1e-4)
    for l2 in (1e-5, 1e-2, 3.16e-4):
        other.head(weighting.plain, l2, standardised)
    np.testing.assert_array_equal(other.head(*wanted).theta, first.theta)


def test_a_head_started_elsewhere_is_the_same_optimum():
    task = make_task(TRAIN, jax.random.key(0), 1e-4)
    fine = make_task(TRAIN, jax.random.key(0), 1e-6, task)
    for rule in (weighting.plain, weighting.cost_sensitive):
        head = fine.head(rule, 1e-3, unscaled)
        direct, _ = fit_weighted(TRAIN, rule(task.key, Y, task.counts), 1e-3, Start(ZEROS), 1e-6, coordinates(ONES))
        assert head.gradient_norm <= 1e-6
        np.testing.assert_allclose(head.theta, direct, atol=2e-3)


def test_a_head_that_was_forgotten_comes_back_in_the_same_bits(monkeypatch):
    monkeypatch.setattr(tasks, "HEADS_BYTES", 0)
    task = make_task(TRAIN, jax.random.key(0), 1e-4)
    solved = []
    monkeypatch.setattr(tasks, "fit_weighted", lambda *given: solved.append(given[2]) or fit_weighted(*given))
    first = task.head(weighting.plain, 1e-3, unscaled).theta
    for l2 in np.geomspace(1e-2, 1e-1, 20):
        task.head(weighting.plain, float(l2), unscaled)
    again = task.head(weighting.plain, 1e-3, unscaled).theta
    assert solved.count(1e-3) == 2
    np.testing.assert_array_equal(again, first)


def test_heads_are_distinguished_by_what_their_rules_draw():
    task = make_task(TRAIN, jax.random.key(0), 1e-4)
    first, same, other = (task.head(weighting.inverse_frequency(power), 1e-3, unscaled) for power in (1.0, 1.0, 0.5))
    assert same is first and np.abs(other.theta - first.theta).max() > 1e-2


def test_a_class_without_weight_leaves_the_others_a_head():
    def without_the_first(key, y, counts):
        return Weighting((y != 0).astype(np.float32), np.zeros(len(counts), np.float32))

    head = make_task(TRAIN, jax.random.key(0), 1e-4).head(without_the_first, 1e-2, unscaled)
    rest = predict_logits(head.theta, X[Y != 0])
    assert head.gradient_norm <= 1e-4 and rest.argmax(1).min() > 0
