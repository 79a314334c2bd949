"""The parts that solvers are made of, each against its definition: a fault here is named here, not as a head that is not solved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import blobs
from jax.scipy.linalg import block_diag

from mmn_jax.linear import bfgs, newton, sample_space
from mmn_jax.linear.algebra import with_column
from mmn_jax.linear.frame import eigenframe, featureframe, into_frame, out_of_frame
from mmn_jax.linear.line_search import line_search
from mmn_jax.linear.passes import point_at
from mmn_jax.linear.problem import HeadProblem

CLASSES = 4


def weighted_problem(dim=6):
    """Uncentred features, weights that don't sum to 1, one of them 0, an offset for each example."""
    rng = np.random.default_rng(0)
    x, y = blobs(0, [9, 6, 4, 3], dim)
    weight = rng.uniform(0.5, 2, len(y)).astype(np.float32)
    weight[3] = 0
    offset = rng.normal(size=(len(y), CLASSES)).astype(np.float32)
    return HeadProblem(jnp.asarray(x + 3), jnp.asarray(y), jnp.asarray(weight), jnp.asarray(offset), jnp.float32(1e-2))


def objective(theta, problem):
    """The formula of `linear/solve.py`, of rows in the features' own coordinates."""
    logits = problem.x @ theta[:, :-1].T + theta[:, -1] + problem.offset
    losses = -jax.nn.log_softmax(logits)[jnp.arange(len(problem.y)), problem.y]
    return (problem.weight * losses).sum() / problem.weight.sum() + problem.l2 / 2 * (theta[:, :-1] ** 2).sum()


def random_rows(seed, width):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(CLASSES, width)), jnp.float32)


def at(problem, frame, v):
    return point_at(problem, frame, v, frame.z @ v.T)


FRAMES = [pytest.param(eigenframe, 6, id="eigenframe"), pytest.param(featureframe, 6, id="featureframe")]
FRAMES += [pytest.param(eigenframe, 30, id="eigenframe, n < d")]


@pytest.mark.parametrize(("make", "dim"), FRAMES)
def test_logits_in_a_frame_are_those_of_the_rows(make, dim):
    problem = weighted_problem(dim)
    frame = make(problem)
    v = random_rows(1, frame.z.shape[1])
    theta = out_of_frame(v, frame)
    differ = frame.z @ v.T - (problem.x @ theta[:, :-1].T + theta[:, -1])
    np.testing.assert_allclose(differ - differ.mean(), 0, atol=2e-4)  # biases are centred, which no softmax sees
    np.testing.assert_allclose(theta[:, -1].mean(), 0, atol=1e-5)


def test_a_column_is_appended():
    rng = np.random.default_rng(0)
    matrix, column = rng.standard_normal((3, 5, 4), np.float32), rng.standard_normal((3, 5), np.float32)
    np.testing.assert_array_equal(with_column(matrix, column), np.concatenate([matrix, column[..., None]], -1))
    np.testing.assert_array_equal(with_column(matrix[0], 1.0), np.pad(matrix[0], ((0, 0), (0, 1)), constant_values=1))


@pytest.mark.parametrize("make", [eigenframe, featureframe])
def test_rows_come_back_from_a_frame_with_centred_biases(make):
    problem = weighted_problem()
    theta = random_rows(2, 7)
    back = out_of_frame(into_frame(theta, make(problem)), make(problem))
    np.testing.assert_allclose(back, theta.at[:, -1].add(-theta[:, -1].mean()), atol=1e-4)


def test_a_point_has_the_gradient_of_the_objective():
    problem = weighted_problem()
    frame = featureframe(problem)
    v = random_rows(3, 7)
    expected = jax.grad(lambda v: objective(out_of_frame(v, frame), problem))(v)
    np.testing.assert_allclose(at(problem, frame, v).gradient, expected, atol=1e-5)


def test_the_hessian_product_is_the_derivative_of_the_gradient():
    problem = weighted_problem()
    frame = eigenframe(problem)
    v, along = random_rows(4, 7), random_rows(5, 7)
    _, expected = jax.jvp(lambda v: at(problem, frame, v).gradient, (v,), (along,))
    np.testing.assert_allclose(newton._hessian_product(problem, frame, at(problem, frame, v), along), expected, atol=1e-5)


def test_blocks_precondition_by_the_inverse_of_the_hessian_of_each_class():
    problem = weighted_problem()
    frame, v, r = eigenframe(problem), random_rows(6, 7), random_rows(7, 7)
    hessian = jax.jacobian(lambda flat: at(problem, frame, flat.reshape(v.shape)).gradient.ravel())(v.ravel())
    blocks = hessian.reshape(CLASSES, 7, CLASSES, 7)[np.arange(CLASSES), :, np.arange(CLASSES)]
    point = at(problem, frame, v)
    by_block = newton._precondition(newton._by_block(problem, frame, point), r)
    np.testing.assert_allclose(by_block.ravel(), jnp.linalg.solve(block_diag(*blocks), r.ravel()), rtol=1e-2, atol=1e-3)
    diagonals = jnp.diagonal(blocks, axis1=1, axis2=2)
    np.testing.assert_allclose(newton._precondition(newton._by_diagonal(problem, frame, point), r), r / diagonals, rtol=1e-3)


@pytest.mark.parametrize("heavy", [3, 7, 12])
def test_blocks_of_some_examples_are_those_of_the_dense_formula(heavy, monkeypatch):
    monkeypatch.setattr(newton, "BLOCK_EXAMPLES", heavy)
    problem = weighted_problem()
    frame, r = eigenframe(problem), random_rows(7, 7)
    point = at(problem, frame, random_rows(6, 7))
    z, weight, ridge = (np.asarray(each, float) for each in (frame.z, frame.weight, frame.ridge))
    expected = []
    for c, p in enumerate(np.asarray(point.probs, float).T):
        curvature = p * (1 - p) * weight
        most = np.argsort(-curvature)[:heavy]
        block = (z[most].T * curvature[most]) @ z[most] + np.diag(curvature @ z**2 - curvature[most] @ z[most] ** 2 + ridge)
        expected.append(np.linalg.solve(block, np.asarray(r[c], float)))
    preconditioner = newton._by_block(problem, frame, point)
    assert preconditioner.factors.shape == (CLASSES, min(heavy, 7), 7)
    np.testing.assert_allclose(newton._precondition(preconditioner, r), expected, rtol=1e-2, atol=1e-3)


def test_blocks_of_few_examples_stay_positive_where_the_ridge_is_next_to_nothing(monkeypatch):
    monkeypatch.setattr(newton, "BLOCK_EXAMPLES", 4)
    problem = weighted_problem()
    problem = problem._replace(x=problem.x * np.float32(100), l2=jnp.float32(1e-9))
    frame = featureframe(problem)
    preconditioner = newton._by_block(problem, frame, at(problem, frame, jnp.zeros((CLASSES, 7))))
    for seed in range(20):
        for r in (random_rows(seed, 7), jnp.tile(frame.z[seed % 4], (CLASSES, 1))):
            assert (r * newton._precondition(preconditioner, r)).sum() > 0


def inner(a, b):
    return (a * b).sum()


def test_the_direction_is_that_of_the_dense_update():
    """H = (I − ρ s yᵀ) γ (I − ρ y sᵀ) + ρ s sᵀ with ρ = 1 / sᵀy, γ = sᵀy / yᵀy."""
    rows = [random_rows(seed, 7) for seed in (8, 9, 10)]
    rows[2] *= jnp.sign((rows[1] * rows[2]).sum())
    gradient, s, y = (np.asarray(one, float).ravel() for one in rows)
    rho, identity = 1 / (s @ y), np.eye(len(s))
    update = identity - rho * np.outer(s, y)
    inverse = s @ y / (y @ y) * update @ update.T + rho * np.outer(s, s)
    np.testing.assert_allclose(bfgs._direction(*rows, inner).ravel(), -inverse @ gradient, rtol=1e-4, atol=1e-4)


def test_without_curvature_the_direction_is_the_gradient():
    gradient, s = random_rows(8, 7), random_rows(9, 7)
    np.testing.assert_array_equal(bfgs._direction(gradient, s, -s, inner), -gradient)


@pytest.mark.parametrize("length", [0.05, 1.0, 30.0])
def test_a_line_search_ends_near_the_minimum_along_the_step(length):
    problem = weighted_problem()._replace(l2=jnp.float32(0.3))
    frame = eigenframe(problem)
    point = at(problem, frame, random_rows(11, 7))
    s = -length * point.gradient

    def slope(v):
        return (at(problem, frame, v).gradient * s).sum()

    found = line_search(problem, frame, point, s, 30)
    assert abs(slope(found.v)) <= 0.3 * abs(slope(point.v))
    again = at(problem, frame, found.v)
    np.testing.assert_allclose(found.gradient, again.gradient, atol=1e-5)
    np.testing.assert_allclose(found.probs, again.probs, atol=1e-5)


def sample_point(problem, frame, alpha, bias):
    v = sample_space.Vector(alpha, bias, frame.kernel @ alpha)
    probs = jax.nn.softmax(v.logits() + problem.offset, axis=1)
    return sample_space._with_gradient(problem, frame, sample_space.SamplePoint(v, probs, v))


def random_coefficients(problem, seed):
    return random_rows(seed, len(problem.y)).T, random_rows(seed + 1, 1)[:, 0]


def test_in_the_space_of_the_examples_the_gradient_is_that_of_the_rows():
    problem = weighted_problem(30)
    frame = sample_space.sample_frame(problem)
    alpha, bias = random_coefficients(problem, 12)
    w = alpha.T @ frame.x
    theta = with_column(w, bias - w @ frame.mean)
    expected = jax.grad(lambda w: objective(with_column(w, bias - w @ frame.mean), problem))(w)
    point = sample_point(problem, frame, alpha, bias)
    differ = point.v.logits() - (problem.x @ theta[:, :-1].T + theta[:, -1])
    np.testing.assert_allclose(differ, 0, atol=5e-4)
    np.testing.assert_allclose(point.gradient.alpha.T @ frame.x, expected, atol=1e-4)
    np.testing.assert_allclose(point.gradient.image, frame.x @ expected.T, atol=2e-3)
    of_bias = jax.grad(lambda bias: objective(with_column(w, bias - w @ frame.mean), problem))(bias)
    np.testing.assert_allclose(point.gradient.bias, of_bias, atol=1e-5)
    norm = sample_space._geometry(problem, frame, point, None).norm(point)
    np.testing.assert_allclose(norm, jnp.sqrt((expected**2).sum() + (of_bias**2).sum()), rtol=1e-4)


def test_a_line_search_in_the_space_of_the_examples_ends_near_the_minimum():
    problem = weighted_problem(30)._replace(l2=jnp.float32(0.3))
    frame = sample_space.sample_frame(problem)
    point = sample_point(problem, frame, *random_coefficients(problem, 14))
    geometry = sample_space._geometry(problem, frame, point, None)
    s = jax.tree.map(lambda one: -5 * one, geometry.gradient(point))
    found = geometry.search(point, s)

    def slope(at):
        return (s.image * at.gradient.alpha).sum() + (s.bias * at.gradient.bias).sum()

    assert abs(slope(found)) <= 0.3 * abs(slope(point))
    again = sample_point(problem, frame, found.v.alpha, found.v.bias)
    np.testing.assert_allclose(found.v.image, again.v.image, atol=1e-4)
    np.testing.assert_allclose(found.gradient.alpha, again.gradient.alpha, atol=1e-5)
