"""Heads with fewer examples than dimensions, solved in the space of their examples (Kimeldorf and Wahba 1970, the representer theorem).

    W = αᵀ x,    logits K α + 1 bᵀ,    K = x xᵀ,    x centred

The gradient over W is Rᵀ x with R = ω (p − Y) + ℓ α. In the metric K, R itself is the direction of steepest descent. Every vector keeps
its product with K, and a step is a combination of vectors that are there, so that memoryless BFGS (`bfgs.py`) takes one product with K a
step, where it takes two with x.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from mmn_jax.linear.algebra import AnyArray, FloatLike, IntLike, mm, solve_by_cholesky, with_column
from mmn_jax.linear.bfgs import LINE_LIMIT, Geometry, descend, mean_curvature
from mmn_jax.linear.line_search import expected_slope, own_slope, settle
from mmn_jax.linear.passes import Block
from mmn_jax.linear.problem import HeadProblem

SPREAD = 2.0  # times the variance along the first gradient: the largest variances are well above their mean along it


class Vector(NamedTuple):
    """Coefficients α of the examples, biases, and K α."""

    alpha: Float[Array, "n C"]
    bias: Float[Array, " C"]
    image: Float[Array, "n C"]

    def logits(self) -> Float[Array, "n C"]:
        """Returns the logits of the examples."""
        return self.image + self.bias


class SamplePoint(NamedTuple):
    """An iterate with its probabilities, and its gradient: R, that of the biases, and K R."""

    v: Vector
    probs: Float[Array, "n C"]
    gradient: Vector


class SampleFrame(NamedTuple):
    """The data of a problem: x [n, d] centred at mean, K [n, n], and weights ω that sum to 1."""

    x: Float[Array, "n d"]
    mean: Float[Array, " d"]
    kernel: Float[Array, "n n"]
    weight: Float[AnyArray, " n"]


def sample_frame(problem: HeadProblem) -> SampleFrame:
    """Returns the data of a problem in the space of its examples."""
    weight = problem.weight / problem.weight.sum()
    mean = (weight[:, None] * problem.x).sum(0)
    x = jnp.asarray(problem.x) - mean
    return SampleFrame(x, mean, mm(x, x.T), weight)


def _starting_vector(frame: SampleFrame, theta: Float[AnyArray, "C p"]) -> Vector:
    """Returns the Vector of rows; what lies outside the span of the examples, or all but outside of it, is left out."""
    w, bias = jnp.asarray(theta[:, :-1]), jnp.asarray(theta[:, -1] + (theta[:, :-1] * frame.mean).sum(1))

    def nearest():
        level = 1e-6 * jnp.trace(frame.kernel) * jnp.eye(len(frame.x), dtype=frame.x.dtype)
        root = solve_by_cholesky(frame.kernel + level, jnp.eye(len(frame.x), dtype=frame.x.dtype))
        alpha = mm(root.T, mm(root, mm(frame.x, w.T)))
        return Vector(alpha, bias, mm(frame.kernel, alpha))

    none = jnp.zeros((len(frame.x), len(w)), frame.x.dtype)
    return lax.cond((w != 0).any(), nearest, lambda: Vector(none, bias, none))


def _block(problem: HeadProblem, frame: SampleFrame, point: SamplePoint) -> Block:
    return Block(frame.x, problem.y, frame.weight, problem.offset, point.v.logits(), point.probs)


def _with_gradient(problem: HeadProblem, frame: SampleFrame, point: SamplePoint) -> SamplePoint:
    residual = _block(problem, frame, point).residual()
    r = residual + problem.l2 * point.v.alpha
    return point._replace(gradient=Vector(r, residual.sum(0), mm(frame.kernel, r)))


def _line_search(problem: HeadProblem, frame: SampleFrame, point: SamplePoint, s: Vector, axis: str | None) -> SamplePoint:
    block, along = _block(problem, frame, point), s.logits()
    own, linear, quadratic = own_slope(block, along), problem.l2 * (s.image * point.v.alpha).sum(), problem.l2 * (s.image * s.alpha).sum()

    def slope(t):
        expected, probs = expected_slope(block, along, t)
        return expected - own + linear + t * quadratic, probs

    start = (s.image * point.gradient.alpha).sum() + (s.bias * point.gradient.bias).sum()
    t, probs = settle(slope, start, LINE_LIMIT, axis)
    v = jax.tree.map(lambda v, s: v + t * s, point.v, s)
    return _with_gradient(problem, frame, SamplePoint(v, probs, point.gradient))


def _geometry(problem: HeadProblem, frame: SampleFrame, start: SamplePoint, axis: str | None) -> Geometry:
    """Returns the Geometry in which coefficients are weighed by K (a λ + ℓ), as `bfgs.py` weighs features, and biases by a."""
    first = start.gradient
    variance = (frame.weight[:, None] * first.image**2).sum() / jnp.maximum((first.image * first.alpha).sum(), 1e-30)
    a = mean_curvature(len(first.bias))
    curvature = a * jnp.maximum(SPREAD * variance, 1e-12) + problem.l2

    def norm(point):
        alpha, bias, image = point.gradient
        return jnp.sqrt(jnp.maximum((alpha * image).sum(), 0.0) + (bias**2).sum())

    def inner(one, other):
        return curvature * (one.image * other.alpha).sum() + a * (one.bias * other.bias).sum()

    def gradient(point):
        alpha, bias, image = point.gradient
        return Vector(alpha / curvature, bias / a, image / curvature)

    return Geometry(inner, lambda point: point.v, gradient, norm, lambda point, s: _line_search(problem, frame, point, s, axis))


def fit_in_samples(
    problem: HeadProblem, theta: Float[AnyArray, "C p"], tol: FloatLike, max_steps: IntLike, axis: str | None = None
) -> tuple[Float[Array, "C p"], Float[Array, ""], Int[Array, ""]]:
    """Fits one head in the space of its examples.

    Args:
      problem: the problem.
      theta: rows to start from.
      tol: the gradient norm to stop at.
      max_steps: the number of steps to stop after in any case.
      axis: the name of the vmapped axis, where there is one.

    Returns:
      Rows with biases centred over classes, the gradient norm, and the number of steps.
    """
    frame = sample_frame(problem)
    v = _starting_vector(frame, theta)
    start = SamplePoint(v, jax.nn.softmax(v.logits() + problem.offset, axis=1), v)
    start = _with_gradient(problem, frame, start)
    geometry = _geometry(problem, frame, start, axis)
    point, steps = descend(geometry, start, tol, max_steps, axis)
    w = mm(point.v.alpha.T, frame.x)
    bias = point.v.bias - (w * frame.mean).sum(1)
    return with_column(w, bias - bias.mean()), geometry.norm(point), steps
