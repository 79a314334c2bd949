"""The bank: its classes, its draws, and that its rows are the heads of these."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import blobs
from hypothesis import given, settings
from hypothesis import strategies as st

from mmn_jax import devices
from mmn_jax.linear.problem import HeadProblem
from mmn_jax.linear.solve import fit_head
from mmn_jax.metamodelnet import kshot_bank
from mmn_jax.rng import fold
from mmn_jax.types import Normalised

COUNTS = np.array([9, 3, 17, 4, 8, 1])
MESH = devices.all_devices()
DRAW = jax.jit(kshot_bank.draw_subset, static_argnames="shots")


@pytest.fixture(scope="module")
def train():
    return Normalised(*blobs(0, COUNTS, 5))


def bank(train, shots=2, subsets=5, memory=1 << 30, key=7):
    return kshot_bank.fit_bank(jax.random.key(key), *train, shots, subsets=subsets, l2=0.05 / COUNTS.sum(), tol=1e-5, memory=memory)


def test_the_ladder_climbs_while_enough_classes_have_twice_as_many_examples():
    assert kshot_bank.shot_ladder(COUNTS, min_classes=4, top=6) == (1, 2)
    assert kshot_bank.shot_ladder(COUNTS, min_classes=2, top=6) == (1, 2, 4)
    assert kshot_bank.shot_ladder(COUNTS, min_classes=2, top=1) == (1, 2)
    assert kshot_bank.shot_ladder(COUNTS, min_classes=6, top=6) == ()
    np.testing.assert_array_equal(kshot_bank.shot_classes(COUNTS, 4), [0, 2, 4])


def test_class_pool_holds_just_these_classes_relabelled_and_sorted(train):
    pool = kshot_bank.class_pool(train, np.array([4, 0]))
    np.testing.assert_array_equal(pool.y, np.repeat([0, 1], [8, 9]))
    np.testing.assert_array_equal(pool.x, np.concatenate([train.x[train.y == 4], train.x[train.y == 0]]))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(3, 12), min_size=2, max_size=5), st.integers(1, 3), st.integers(0, 1000))
def test_a_draw_has_k_distinct_examples_of_every_class(counts, shots, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    start = np.cumsum(counts) - counts
    index = np.asarray(DRAW(jax.random.key(seed), y, start, shots))
    assert index.shape == (len(counts), shots)
    np.testing.assert_array_equal(y[index], np.repeat(np.arange(len(counts))[:, None], shots, 1))
    assert len(np.unique(index)) == index.size


def test_every_example_is_drawn_equally_often():
    y = jnp.repeat(jnp.arange(2), 5)
    draw = jax.vmap(lambda s: kshot_bank.draw_subset(jax.random.fold_in(jax.random.key(0), s), y, jnp.array([0, 5]), 2))
    times = np.bincount(np.asarray(draw(jnp.arange(2000))).ravel(), minlength=10)
    assert np.abs(times / 2000 - 0.4).max() < 0.05


def test_rows_are_the_heads_of_their_draws(train):
    made = bank(train)
    pool = kshot_bank.class_pool(train, made.classes)
    start = np.cumsum(COUNTS[made.classes]) - COUNTS[made.classes]
    index = kshot_bank.draw_subset(
        jax.random.fold_in(fold(jax.random.key(7), "kshot", 2), 3), jnp.asarray(pool.y), jnp.asarray(start), 2
    ).ravel()
    x, y = jnp.asarray(pool.x)[index], jnp.asarray(pool.y)[index]
    n, classes = len(y), len(made.classes)
    p = HeadProblem(x, y, jnp.ones(n), jnp.zeros(classes), jnp.float32(0.05 / n))
    theta, _ = jax.jit(fit_head)(p, jnp.zeros((classes, 6)), 1e-6)
    np.testing.assert_allclose(made.heads(3, 4)[0], theta, atol=1e-2 * np.abs(theta).max())


def test_targets_are_the_head_of_everything_these_classes_have(train):
    made = bank(train)
    pool = kshot_bank.class_pool(train, made.classes)
    n, classes = len(pool.y), len(made.classes)
    p = HeadProblem(jnp.asarray(pool.x), jnp.asarray(pool.y), jnp.ones(n), jnp.zeros(classes), jnp.float32(0.05 / n))
    theta, _ = jax.jit(fit_head)(p, jnp.zeros((classes, 6)), 1e-6)
    np.testing.assert_allclose(made.target, theta, atol=1e-2 * np.abs(theta).max())


def test_chunking_changes_no_draw(train):
    whole = bank(train)
    split = bank(train, memory=2 * kshot_bank.head_bytes(8, 5, 4, 512))
    np.testing.assert_allclose(split.heads(0, 5), whole.heads(0, 5), atol=1e-3 * np.abs(whole.heads(0, 5)).max())


def test_more_subsets_leave_the_first_ones_as_they_were(train):
    few = bank(train, subsets=3)
    many = bank(train, subsets=5)
    np.testing.assert_allclose(many.heads(0, 3), few.heads(0, 3), atol=1e-3 * np.abs(few.heads(0, 3)).max())


def test_another_key_draws_other_subsets(train):
    first = bank(train)
    second = bank(train, key=8)
    assert np.abs(first.heads(0, 5) - second.heads(0, 5)).max() > 0.01
