"""The solver against independent solvers of the same objective, and the invariances of the problem."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.core import Var, jaxprs_in_params
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from mmn_jax.data import synthetic
from mmn_jax.linear import frame, solve
from mmn_jax.linear.problem import HeadProblem, pad_examples, padded
from mmn_jax.linear.rows import centred
from mmn_jax.linear.solve import BFGS, NEWTON, fit_batch, fit_head, newton_in_blocks, warn_unless_converged

fit = jax.jit(fit_head, static_argnames="solver")


def problem(x, y, classes, weight=None, offset=None, l2=1e-3):
    weight = np.ones(len(y)) if weight is None else weight
    offset = np.zeros(classes) if offset is None else offset
    return HeadProblem(jnp.asarray(x), jnp.asarray(y), *(jnp.asarray(v, jnp.float32) for v in (weight, offset, l2)))


def fitted(p, classes, tol=1e-6, solver=NEWTON):
    theta, info = fit(p, jnp.zeros((classes, p.x.shape[1] + 1)), tol, solver=solver)
    assert info.converged and info.gradient_norm <= tol
    return np.asarray(theta), info


def objective(theta, p):
    """In float64 numpy, from the formula of the module's docstring."""
    x, y, weight, offset, l2 = (np.asarray(v, np.float64 if i != 1 else int) for i, v in enumerate(p))
    losses = -log_softmax(x @ theta[:, :-1].T + theta[:, -1] + offset, axis=1)[np.arange(len(y)), y]
    return (weight * losses).sum() / weight.sum() + 0.5 * l2 * (theta[:, :-1] ** 2).sum()


def gradient(theta, p):
    x, y, weight, offset, l2 = (np.asarray(v, np.float64 if i != 1 else int) for i, v in enumerate(p))
    residual = softmax(x @ theta[:, :-1].T + theta[:, -1] + offset, axis=1)
    residual[np.arange(len(y)), y] -= 1
    residual *= (weight / weight.sum())[:, None]
    return np.concatenate([residual.T @ x + l2 * theta[:, :-1], residual.sum(0)[:, None]], 1)


def sklearn_theta(p):
    """LogisticRegression minimises C Σ ω CE + ½‖W‖², the same optimum for C = 1 / (ℓ Σ ω)."""
    weight = np.asarray(p.weight, np.float64)
    model = LogisticRegression(C=1 / (float(p.l2) * weight.sum()), tol=1e-10, max_iter=20000)
    model.fit(np.asarray(p.x, np.float64), np.asarray(p.y), sample_weight=weight)
    return np.concatenate([model.coef_, (model.intercept_ - model.intercept_.mean())[:, None]], 1)


CASES = {
    "plain": ([40, 20, 10, 5], 6, False),
    "weighted": ([40, 20, 10, 5], 6, True),
    "k-shot, fewer examples than dimensions": ([2] * 6, 30, False),
    "1-shot": ([1] * 8, 16, False),
}


@pytest.mark.parametrize("solver", [NEWTON, BFGS])
@pytest.mark.parametrize("l2", [1e-2, 1e-4])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_scikit_learn(case, l2, solver):
    counts, dim, weighted = CASES[case]
    x, y = blobs(0, counts, dim)
    weight = 1 / np.asarray(counts)[y] if weighted else None
    p = problem(x, y, len(counts), weight=weight, l2=l2)
    theta, _ = fitted(p, len(counts), tol=2e-7, solver=solver)
    reference = sklearn_theta(p)
    scale = np.abs(reference).max()
    np.testing.assert_allclose(theta / scale, reference / scale, atol=5e-3 if l2 == 1e-4 else 2e-4)
    assert abs(objective(theta, p) - objective(reference, p)) < 1e-6
    np.testing.assert_array_equal((x @ theta[:, :-1].T + theta[:, -1]).argmax(1), (x @ reference[:, :-1].T + reference[:, -1]).argmax(1))


@pytest.mark.parametrize("by_example", [False, True])
def test_offsets_agree_with_scipy(by_example):
    counts, dim = [30, 12, 6], 5
    x, y = blobs(1, counts, dim)
    offset = np.random.default_rng(0).normal(size=(len(y), 3)) if by_example else np.log(np.asarray(counts) / sum(counts))
    p = problem(x, y, 3, offset=offset)
    theta, _ = fitted(p, 3)

    def value_and_slope(v):
        v = v.reshape(3, dim + 1)
        return objective(v, p), gradient(v, p).ravel()

    reference = minimize(value_and_slope, np.zeros(3 * (dim + 1)), jac=True, method="BFGS", options={"gtol": 1e-9}).x.reshape(3, -1)
    reference[:, -1] -= reference[:, -1].mean()
    np.testing.assert_allclose(theta, reference, atol=3e-3)


@pytest.mark.parametrize(("counts", "dim"), [([50, 20, 10], 8), ([4, 3, 2], 20)])
def test_reported_norm_is_the_true_gradient_norm(counts, dim):
    x, y = blobs(2, counts, dim)
    p = problem(x, y, 3, l2=1e-5)
    theta, info = fitted(p, 3, tol=1e-4)
    assert abs(np.linalg.norm(gradient(theta.astype(float), p)) - float(info.gradient_norm)) < 2e-6


def test_with_fewer_examples_than_dimensions_the_basis_is_orthonormal():
    x, _ = blobs(2, [20, 20], 64)
    x = x * np.logspace(0, -3.5, 64, dtype=np.float32)  # small eigenvalues, which float32 resolves badly
    basis = np.asarray(frame._eigenbasis(jnp.asarray(x - x.mean(0)), jnp.full(40, 1 / 40)))
    kept = np.abs(basis).max(0) > 0
    np.testing.assert_allclose(basis[:, kept].T @ basis[:, kept], np.eye(kept.sum()), atol=2e-3)
    assert kept.sum() > 10


@pytest.mark.parametrize("solver", [NEWTON, BFGS])
def test_a_step_that_is_tried_first_changes_the_way_and_not_the_end(solver):
    x, y = blobs(2, [50, 20, 10], 8)
    paths = [fitted(problem(x, y, 3, l2=l2), 3, 1e-6, solver)[0] for l2 in (1e-2, 1e-3, 1e-4)]
    p = problem(x, y, 3, l2=1e-4)
    for ahead in (paths[1] - paths[0], -5 * paths[1], np.ones_like(paths[0])):
        theta, info = fit(p, paths[1], 1e-6, solver=solver, ahead=ahead)
        assert info.converged
        np.testing.assert_allclose(theta, paths[2], atol=2e-3)
    _, before = fit(p, paths[1], 1e-4, solver=solver)
    extrapolated, after = fit(p, paths[1], 1e-4, solver=solver, ahead=paths[1] - paths[0])
    if solver is NEWTON:  # BFGS must learn the curvature from either start
        assert after.steps + after.products < before.steps + before.products
    kept, none = fit(p, extrapolated, 1e-3, solver=solver, ahead=np.full_like(paths[0], 1e3))  # not tried where the start will do
    assert none.steps == 0
    np.testing.assert_allclose(kept, extrapolated, atol=1e-5)


@pytest.mark.parametrize(("counts", "dim"), [([50, 20, 10], 8), ([12, 7, 5], 40)])
@pytest.mark.parametrize("by_example", [False, True])
def test_logits_block_by_block_give_the_same_head(counts, dim, by_example):
    x, y = blobs(2, counts, dim)
    offset = np.random.default_rng(0).normal(size=(len(y), 3)) if by_example else np.log(counts)
    given_ = problem(x, y, 3, weight=1 / np.asarray(counts)[y], offset=offset, l2=1e-5)
    theta, info = fitted(given_, 3, 1e-5)
    for start, ahead in ((jnp.zeros_like(theta), None), (0.5 * theta, 0.4 * theta)):
        found, its = fit(pad_examples(given_, 7), start, 1e-5, solver=newton_in_blocks(NEWTON, 7), ahead=ahead)
        assert its.converged and its.products <= info.products + 10
        np.testing.assert_allclose(found, theta, atol=2e-2 * np.abs(theta).max())
        assert abs(objective(np.asarray(found, float), given_) - objective(theta.astype(float), given_)) < 1e-6
    with pytest.raises(ValueError, match=rf"has {len(y)} examples, which is no multiple of the solver's 7 "):
        fit(given_, theta, solver=newton_in_blocks(NEWTON, 7))


def test_logits_of_hundreds_of_classes_block_by_block_give_the_same_head():
    x, y = synthetic.make("large", 500, 256, 30, 5, 1, scatter=10.0).train
    given_ = pad_examples(problem(x / np.sqrt((x**2).sum(1).mean()), y, 500, l2=1e-3), 1024)
    zeros = jnp.zeros((500, 257))
    (theta, _), (found, info) = (fit(given_, zeros, 1e-4, solver=solver) for solver in (NEWTON, newton_in_blocks(NEWTON, 1024)))
    assert info.converged and info.products > 0
    np.testing.assert_allclose(found, theta, atol=1e-3 * np.abs(theta).max())


@pytest.mark.parametrize("solver", [NEWTON, BFGS])
def test_a_solve_that_runs_out_of_steps_says_so(solver):
    x, y = blobs(2, [50, 20, 10], 8)
    p, zeros = problem(x, y, 3, l2=1e-6), jnp.zeros((3, 9))
    _, info = fit(p, zeros, 1e-7, solver=solver, max_steps=1)  # traced, as it is where fit_one is given it
    assert info.gradient_norm > 1e-7 and info.steps == 1 and not info.converged
    theta, of_solver = fit(p, zeros, 1e-7, solver=solver._replace(max_steps=2))
    assert of_solver.steps == 2 and not of_solver.converged
    _, met = fit(p, theta, float(of_solver.gradient_norm) * 1.01, solver=solver, max_steps=0)
    assert met.converged and met.steps == 0


@pytest.mark.parametrize("solver", [NEWTON, BFGS])
def test_a_problem_that_holds_a_nan_does_not_converge(solver):
    x, y = blobs(2, [5, 4, 3], 2)
    x[3, 1] = np.nan
    _, info = fit(problem(x, y, 3), jnp.zeros((3, 3)), solver=solver)
    assert np.isnan(info.gradient_norm) and not info.converged
    with pytest.warns(ConvergenceWarning, match=r"^head: stopped after \d+ steps at a gradient norm of nan, check x, weight and"):
        warn_unless_converged(info, "head")


def test_what_did_not_converge_is_warned_of():
    x, y = blobs(3, [6, 5, 4], 4)
    problems = problem(x, y, 3)._replace(l2=jnp.array([1e2, 1e-4]))
    run = jax.jit(partial(fit_batch, shared=("x", "y", "weight", "offset")))
    _, info = run(problems, jnp.zeros((3, 5)), 1e-5, max_steps=10)
    np.testing.assert_array_equal(info.converged, [True, False])
    with pytest.warns(
        ConvergenceWarning, match=r"^bank: 1 of 2 heads did not converge; the first stopped after 10 steps .* above tol; raise"
    ):
        warn_unless_converged(info, "bank")
    warn_unless_converged(run(problems, jnp.zeros((3, 5)), 1e-5, max_steps=100)[1], "bank")  # a warning would be an error


def test_vmapped_problems_are_the_single_ones():
    x, y = blobs(3, [20, 10, 5], 6)
    strengths = [1e-1, 1e-3, 1e-5]
    together = jax.jit(jax.vmap(lambda l2: fit_head(problem(x, y, 3)._replace(l2=l2), jnp.zeros((3, 7)), 1e-6)))
    batch = together(jnp.array(strengths))
    for i, l2 in enumerate(strengths):
        single, _ = fitted(problem(x, y, 3, l2=l2), 3)
        np.testing.assert_allclose(batch[0][i], single, atol=2e-2 * np.abs(single).max())


def test_with_fewer_examples_than_dimensions_bfgs_goes_on_from_rows_that_are_given():
    x, y = blobs(3, [6, 5, 4], 30)
    p = problem(x, y, 3, weight=1 / np.asarray([6, 5, 4])[y], offset=[0.5, 0, -1], l2=1e-3)
    theta, info = fitted(p, 3, 1e-5, BFGS)
    np.testing.assert_allclose(theta, fitted(p, 3, 1e-6, NEWTON)[0], atol=2e-3 * np.abs(theta).max())
    again, few = fit(p, theta, 2e-5, solver=BFGS)
    assert few.steps == 0 < info.steps
    np.testing.assert_allclose(again, theta, atol=1e-4)
    outside = np.random.default_rng(0).normal(size=(3, 31)).astype(np.float32)  # of the span of the examples, for the most part
    elsewhere, its = fit(p, outside, 1e-5, solver=BFGS)
    assert its.converged
    np.testing.assert_allclose(elsewhere, theta, atol=2e-3 * np.abs(theta).max())
    with pytest.raises(ValueError, match=r"^ahead: is not used with fewer examples than dimensions by BFGS; leave it out, or solve by NEW"):
        fit(p, theta, solver=BFGS, ahead=theta)


def test_a_batch_solves_each_problem_as_if_it_were_alone():
    x, y = blobs(3, [6, 5, 4], 30)
    strengths = jnp.array([1e-1, 1e-5, 1e-3])

    @jax.jit
    def fit_ridges(l2):
        return fit_batch(problem(x, y, 3)._replace(l2=l2), jnp.zeros((3, 31)), 1e-5, shared=("x", "y", "weight", "offset"))

    theta, info = fit_ridges(strengths)
    for i in range(3):
        alone, its = fit_ridges(strengths[i : i + 1])
        np.testing.assert_allclose(theta[i], alone[0], atol=1e-4 * np.abs(alone).max())
        assert info.steps[i] == its.steps[0] and info.gradient_norm[i] <= 1e-5


@pytest.mark.parametrize("solver", [NEWTON, BFGS])
def test_in_64_bits_it_goes_on_where_float32_ends(solver):
    x, y = blobs(3, [20, 10, 5], 6)
    with jax.enable_x64(True):
        p = HeadProblem(*(jnp.asarray(v) for v in (x.astype(float), y, np.ones(len(y)), np.zeros(3), 1e-3)))
        _, info = fit(p, jnp.zeros((3, 7)), 1e-10, solver=solver)
        assert info.gradient_norm <= 1e-10


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_weights_count_copies_and_zero_removes(seed):
    rng = np.random.default_rng(seed)
    x, y = blobs(seed, [6, 4, 3], 4)
    times = rng.integers(0, 3, len(y)) + (np.arange(len(y)) % 3 == 0)
    times[[0, 6, 10]] = np.maximum(times[[0, 6, 10]], 1)
    weighted, _ = fitted(problem(x, y, 3, weight=times, l2=1e-2), 3)
    copied, _ = fitted(pad_examples(problem(np.repeat(x, times, 0), np.repeat(y, times), 3, l2=1e-2), 32), 3)  # one shape, one program
    np.testing.assert_allclose(weighted, copied, atol=5e-4)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_rotating_and_shifting_features_and_renaming_classes_change_nothing(seed):
    rng = np.random.default_rng(seed)
    x, y = blobs(seed, [6, 4, 3], 4)
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    names, shift = rng.permutation(3), rng.normal(size=4)
    theta, _ = fitted(problem(x, y, 3, l2=1e-2), 3)
    moved, _ = fitted(problem((x @ rotation + shift).astype(np.float32), names[y].astype(np.int32), 3, l2=1e-2), 3)
    logits = x @ theta[:, :-1].T + theta[:, -1]
    other = ((x @ rotation + shift) @ moved[:, :-1].T + moved[:, -1])[:, names]
    np.testing.assert_allclose(logits - logits.mean(1, keepdims=True), other - other.mean(1, keepdims=True), atol=2e-3)


def test_rows_are_centred_over_classes():
    x, y = blobs(4, [20, 10, 5], 6)
    theta, _ = fitted(problem(x, y, 3), 3)
    np.testing.assert_allclose(theta.sum(0), 0, atol=1e-3)


@pytest.mark.parametrize("solver", [NEWTON, BFGS])
def test_separable_data_constant_and_duplicate_features_stay_finite(solver):
    x, y = blobs(5, [5] * 4, 6, spread=0.01)
    x = np.concatenate([x, x[:, :2], np.zeros((len(x), 1), np.float32)], 1)
    theta, info = fitted(problem(x, y, 4, l2=1e-7), 4, tol=1e-5, solver=solver)
    assert np.isfinite(theta).all() and np.isfinite(info.gradient_norm)


def test_centred_rows_are_the_same_classifier_and_sum_to_nothing():
    theta, x = np.random.default_rng(0).normal(size=(2, 5, 4)), np.random.default_rng(1).normal(size=(7, 3))
    rows = centred(theta)
    np.testing.assert_allclose(rows.sum(1), 0, atol=1e-12)
    for before, after in zip(theta, rows, strict=True):
        probabilities = [softmax(x @ rows[:, :-1].T + rows[:, -1], axis=1) for rows in (before, after)]
        np.testing.assert_allclose(*probabilities, atol=1e-12)


def test_padding_adds_examples_of_weight_0_up_to_a_multiple():
    assert [padded(n, 4) for n in (1, 4, 5)] == [4, 4, 8] and padded(513) == 1024
    x, y = blobs(0, [3, 2], 2)
    for offset in (None, np.ones((5, 2))):
        given_ = problem(x, y, 2, offset=offset)
        longer = pad_examples(given_, 4)
        assert longer.x.shape == (8, 2) and len(longer.y) == len(longer.weight) == 8 and not longer.weight[5:].any()
        assert longer.offset.shape == ((2,) if offset is None else (8, 2))
        np.testing.assert_allclose(fitted(longer, 2)[0], fitted(given_, 2)[0], atol=1e-5)


def shapes_only(examples, dim, classes):
    return problem(np.zeros((examples, dim), np.float32), np.zeros(examples, int), classes)


def products(jaxpr):
    """FLOPs of the matrix products and triangular solves of a program: outside of its loops, and of one pass through each of them. Of what
    is written for several platforms, those of the first."""
    outside, inside = 0, 0
    platforms = {var for equation in jaxpr.eqns if equation.primitive.name == "platform_index" for var in equation.outvars}
    for equation in jaxpr.eqns:
        shapes = [var.aval.shape for var in equation.invars]
        if equation.primitive.name == "dot_general":
            (left, _), _ = equation.params["dimension_numbers"]
            outside += 2 * np.prod(equation.outvars[0].aval.shape) * np.prod([shapes[0][axis] for axis in left])
        elif equation.primitive.name == "triangular_solve":
            outside += shapes[0][-1] * np.prod(shapes[1])
        chosen = slice(1) if platforms & {var for var in equation.invars if isinstance(var, Var)} else slice(None)
        parts = [products(part) for part in list(jaxprs_in_params(equation.params))[chosen]]
        for counted in [min(parts)] if equation.primitive.name == "cond" else parts:
            outside, inside = outside + counted[0] * (equation.primitive.name != "while"), inside + counted[1]
            inside += counted[0] * (equation.primitive.name == "while")
    return outside, inside


@pytest.mark.parametrize(("solver", "shape"), [(solve.NEWTON, (2000, 200, 2)), (solve.BFGS, (64, 384, 3)), (solve.BFGS, (64, 384, 64))])
def test_the_flops_of_a_frame_are_those_of_its_program(solver, shape):
    _, dim, classes = shape
    program = jax.make_jaxpr(partial(fit_head, solver=solver))(shapes_only(*shape), jnp.zeros((classes, dim + 1)))
    counted, _ = products(program.jaxpr)
    assert solve.head_flops(*shape, 0, 0, solver) == pytest.approx(counted, rel=0.08)


def test_the_flops_of_a_step_are_those_of_its_program():
    shape = (1000, 128, 100)
    program = jax.make_jaxpr(partial(fit_head, solver=solve.BFGS))(shapes_only(*shape), jnp.zeros((100, 129)))
    begun, counted = products(program.jaxpr)
    once, steps, both = (solve.head_flops(*shape, *taken, solve.BFGS) for taken in ((0, 0), (1, 0), (np.array([2, 0]), np.array([1, 3]))))
    assert steps - once == pytest.approx(counted, rel=0.02) and once == pytest.approx(begun - counted / 2, rel=0.02)  # a line search ahead
    np.testing.assert_allclose(both - once, 3 * (steps - once))


@pytest.mark.parametrize("shape", [(10240, 32, 400), (512, 600, 10), (1024, 128, 100), (2048, 2047, 40)])
def test_the_memory_of_a_solve_is_what_its_program_asks_for(shape):
    _, dim, classes = shape
    compiled = solve.fit_one.lower(shapes_only(*shape), jnp.zeros((classes, dim + 1)), 1e-6).compile()
    assert solve.solve_bytes(*shape) == pytest.approx(compiled.memory_analysis().temp_size_in_bytes, rel=0.15)
