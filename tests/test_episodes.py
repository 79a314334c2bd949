"""Mixed-shot episodes: the counts of their heads, what is drawn from where, and that a regressor learns from them."""

from functools import partial

import jax
import numpy as np
import pytest
from conftest import blobs

from mmn_jax.contrib import mixed_shot, small_regressors
from mmn_jax.linear.class_model import class_means
from mmn_jax.linear.problem import HeadProblem
from mmn_jax.linear.solve import fit_one
from mmn_jax.metamodelnet.level import Hyper, Schedule, train_level
from mmn_jax.metamodelnet.regressor import Regressor, RegressorSpec, make_context
from mmn_jax.metamodelnet.training_data import held_out_classes
from mmn_jax.types import Normalised

COUNTS = np.array([40] * 10 + [12] * 6 + [6] * 4 + [2] * 5)
TRAIN = Normalised(*blobs(0, COUNTS, 6, spread=2.5))
BANK = mixed_shot.fit_mixed_bank(jax.random.key(0), TRAIN, mixed_shot.MixedPlan(6, 1e-3, 1e-5))
HELD = held_out_classes(COUNTS, 0.25)
DATA = mixed_shot.make_episodes(jax.random.key(1), BANK, HELD)
CONTEXT = make_context(TRAIN)


@pytest.fixture(autouse=True)
def standard_promotion():
    """optax's Adam itself mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_every_class_gets_the_count_of_another_and_at_most_half_of_its_own():
    own = COUNTS[BANK.classes]
    assert (own >= mixed_shot.LEAST).all() and len(own) == 20
    assert ((BANK.shots >= 1) & (BANK.shots <= own // 2)).all() and len(np.unique(BANK.shots)) > 3
    for shots, used, means in zip(BANK.shots, BANK.used, BANK.means, strict=True):
        np.testing.assert_array_equal(np.bincount(BANK.pool.y[used], minlength=20), shots)
        np.testing.assert_allclose(means, class_means(BANK.pool.x[used], BANK.pool.y[used], 20), atol=1e-6)


def test_rows_are_those_of_the_logit_adjusted_head_of_the_subset():
    used = BANK.used[2]
    problem = HeadProblem(
        BANK.pool.x[used], BANK.pool.y[used], np.ones(used.sum(), np.float32), np.log(BANK.shots[2] / used.sum()).astype(np.float32), 1e-3
    )
    theta, _ = fit_one(problem, np.zeros((20, 7), np.float32), 1e-5)
    np.testing.assert_allclose(BANK.theta[2], theta - theta.mean(0), atol=0.03)


def test_a_draw_is_balanced_unused_and_of_training_classes():
    s = 3
    index = np.minimum(np.searchsorted(DATA.chance[s], np.linspace(0, 1, 20001)[:-1]), len(DATA.y) - 1)
    drawn = np.bincount(BANK.pool.y[index], minlength=20) / len(index)
    trains = ~HELD[BANK.classes]
    np.testing.assert_allclose(drawn, trains / trains.sum(), atol=2e-3)
    assert not BANK.used[s][index].any()
    for evaluated, used in zip(DATA.held, BANK.used, strict=False):
        assert not used[evaluated].any() and HELD[BANK.classes][BANK.pool.y[evaluated]].all()


def test_held_out_classes_do_not_reach_the_gradient():
    moved = DATA._replace(theta=DATA.theta.at[:, ~DATA.seen].add(3.0), target=DATA.target.at[~DATA.seen].add(5.0))
    regressor = small_regressors.scale_and_bias()
    variables = regressor.init(jax.random.key(0), RegressorSpec(7, 0))
    slope = jax.jit(jax.grad(partial(mixed_shot._objective, regressor, 32), has_aux=True))
    arguments = ({}, Hyper(1.0, 1e-2, 0.0), jax.random.key(4), CONTEXT)
    gradient, other = (slope(variables["params"], *arguments, data)[0] for data in (DATA, moved))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient, other)


@pytest.mark.parametrize("make", [small_regressors.scale_and_bias, small_regressors.bayesian_mix])
def test_training_helps_the_classes_that_it_never_saw(make):
    regressor = make()
    start = regressor.init(jax.random.key(0), RegressorSpec(7, 0))
    programs = mixed_shot.compile_programs(regressor, 64)
    schedule = Schedule(150, 10, 3, 64)
    trained, report = train_level(programs, start, Hyper(1.0, 1e-2, 1e-3), jax.random.key(0), CONTEXT, lambda _: DATA, schedule)
    before, after = (mixed_shot.held_out_losses(regressor, v, CONTEXT, DATA).sum() for v in (start, trained))
    assert after < before and report.best_step > 0
    unmoved = Regressor(lambda key, spec: {}, lambda variables, theta, shots, context, train: (theta, variables))
    np.testing.assert_allclose(before, mixed_shot.held_out_losses(unmoved, {}, CONTEXT, DATA).sum(), rtol=1e-5)
