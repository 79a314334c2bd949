"""Laws that results obey whatever the data: symmetries of the problem, its convexity, and gradients that are those of the losses.

Others stand beside what they are about: weights and copies, rotations and names of classes (test_heads.py), where a row enters
(test_transfer.py), intervals that hold what they should (test_evaluate.py).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy.special import log_softmax

from mmn_jax.linear.class_model import Shrinkage, bayesian_rows, class_model, class_statistics
from mmn_jax.linear.frame import featureframe, into_frame, out_of_frame
from mmn_jax.linear.passes import point_at
from mmn_jax.linear.problem import HeadProblem
from mmn_jax.linear.rows import predict_logits
from mmn_jax.linear.solve import fit_one
from mmn_jax.metamodelnet.chain import residual_chain
from mmn_jax.metamodelnet.losses import mean_task_loss, relative_row_loss
from mmn_jax.metamodelnet.regressor import Context, RegressorSpec, entry_level
from mmn_jax.metamodelnet.transfer import transfer_rows
from mmn_jax.types import Normalised

SEEDS = st.integers(0, 10**6)
LAW = settings(max_examples=10, deadline=None)
COUNTS = [8, 5, 3]


def problem(x, y, l2=1e-2, offset=(0.0, 0.0, 0.0)):
    arrays = [np.asarray(array, np.float32) for array in (x, np.ones(len(y)), offset, l2)]
    return HeadProblem(arrays[0], np.asarray(y, np.int32), *arrays[1:])


def solve(*args, start=None, **options):
    theta = np.zeros((3, 5), np.float32) if start is None else start
    each = problem(*args, **options)
    theta = np.asarray(fit_one(each, theta, 1e-7)[0])
    logits = predict_logits(theta.astype(float), each.x) + each.offset
    loss = -log_softmax(logits, axis=1)[np.arange(len(each.y)), each.y].mean()
    return theta, loss + 0.5 * each.l2 * (theta[:, :-1].astype(float) ** 2).sum()


@LAW
@given(SEEDS)
def test_the_order_of_examples_is_nothing(seed):
    x, y = blobs(seed, COUNTS, 4)
    order = np.random.default_rng(seed).permutation(len(y))
    np.testing.assert_allclose(solve(x[order], y[order])[0], solve(x, y)[0], atol=1e-3)


@LAW
@given(SEEDS, st.floats(-50, 50))
def test_a_number_added_to_all_offsets_is_nothing(seed, number):
    x, y = blobs(seed, COUNTS, 4)
    offset = np.random.default_rng(seed).normal(size=3)
    np.testing.assert_allclose(solve(x, y, offset=offset + number)[0], solve(x, y, offset=offset)[0], atol=2e-3)


@LAW
@given(SEEDS, st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_features_times_c_are_a_ridge_over_c_squared(seed, factor):
    x, y = blobs(seed, COUNTS, 4)
    theta, scaled = solve(x, y)[0], solve(x * factor, y, l2=1e-2 * factor**2)[0]
    np.testing.assert_allclose(scaled[:, :-1] * factor, theta[:, :-1], atol=2e-3)
    np.testing.assert_allclose(scaled[:, -1], theta[:, -1], atol=2e-3)


@LAW
@given(SEEDS)
def test_two_starts_end_in_one_optimum_and_nothing_between_them_is_below_it(seed):
    x, y = blobs(seed, COUNTS, 4)
    rng = np.random.default_rng(seed)
    (theta, lowest), (other, again) = solve(x, y), solve(x, y, start=rng.normal(size=(3, 5)).astype(np.float32) * 3)
    np.testing.assert_allclose(other, theta, atol=2e-3)
    assert again == pytest.approx(lowest, abs=1e-6)
    away = theta + 0.1 * rng.normal(size=theta.shape)
    assert objective(away, problem(x, y)) > objective(theta, problem(x, y)) - 1e-6


def objective(theta, given):
    logits = given.x @ theta[:, :-1].T + theta[:, -1] + given.offset
    loss = jnp.mean(jax.nn.logsumexp(logits, axis=1) - logits[jnp.arange(len(given.y)), given.y])
    return loss + 0.5 * given.l2 * (theta[:, :-1] ** 2).sum()


def test_the_solver_s_gradient_is_that_of_the_objective():
    with jax.enable_x64(True):
        x, y = blobs(1, COUNTS, 4)
        given_ = problem(x, y)._replace(x=jnp.asarray(x, float), weight=jnp.ones(len(y), float), offset=jnp.zeros(3), l2=jnp.asarray(1e-2))
        frame, theta = featureframe(given_), np.random.default_rng(0).normal(size=(3, 5))

        def at(v):
            return objective(out_of_frame(v, frame), given_)

        v = into_frame(theta, frame)
        check_grads(jax.jit(at), (v,), 1, ("rev",), atol=1e-6, rtol=1e-6)
        np.testing.assert_allclose(point_at(given_, frame, v, frame.z @ v.T).gradient, jax.jit(jax.grad(at))(v), atol=1e-10)


def test_the_losses_of_training_have_the_gradients_of_their_differences():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        chain = residual_chain((1, 2), 3, jnp.float64)
        theta, target, x = (jnp.asarray(rng.normal(size=shape)) for shape in ((6, 5), (6, 5), (9, 4)))
        variables = jax.jit(chain.init, static_argnums=1)(jax.random.key(0), RegressorSpec(5, 0))
        variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) + 0.1 * jnp.asarray(rng.normal(size=leaf.shape)), variables)
        context = Context(None, jnp.zeros(6, int))

        def loss(params):
            moved, _ = chain.apply({**variables, "params": params}, theta, jnp.array([1, 1, 1, 2, 2, 2]), context, True)
            return relative_row_loss(moved, target) + mean_task_loss(moved, x, jnp.arange(9) % 6)

        check_grads(jax.jit(loss), (variables["params"],), 1, ("rev",), atol=1e-5, rtol=1e-5)


def test_an_untrained_chain_gives_the_classifier_it_was_given():
    chain, counts = residual_chain((1, 2, 4), 3), np.array([1, 2, 3, 5, 9])
    theta = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    variables = jax.jit(chain.init, static_argnums=1)(jax.random.key(0), RegressorSpec(4, 0))
    moved = transfer_rows(chain, variables, theta, counts, Context(None, jnp.zeros(5, jnp.int32)), 100)
    np.testing.assert_array_equal(moved, theta)


@LAW
@given(st.lists(st.integers(1, 2000), min_size=8, max_size=8), st.integers(0, 6))
def test_more_examples_never_enter_earlier(counts, top):
    rungs = np.asarray(entry_level(jnp.asarray(np.sort(counts)), tuple(2**i for i in range(top + 1))))
    assert (np.diff(rungs) >= 0).all() and rungs[0] >= 0 and rungs[-1] <= top
    np.testing.assert_array_equal(rungs, np.minimum(np.floor(np.log2(np.sort(counts))), top))


@LAW
@given(SEEDS)
def test_bayesian_rows_follow_their_classes_and_ignore_the_order_of_examples(seed):
    rng = np.random.default_rng(seed)
    train = Normalised(*blobs(seed, [9, 7, 5, 3, 1], 4))
    names, order = rng.permutation(5), rng.permutation(len(train.y))

    def rows(examples):
        statistics = class_statistics(examples)
        return bayesian_rows(class_model(examples, Shrinkage(0.5, 0.5)), statistics.means, statistics.counts)

    renamed = rows(Normalised(train.x[order], names[train.y[order]].astype(np.int32)))
    np.testing.assert_allclose(renamed[names], rows(train), atol=1e-6)
