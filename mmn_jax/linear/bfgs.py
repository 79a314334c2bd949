"""Memoryless BFGS for a batch of small heads: each step takes two products of the size of the data, whatever the curvature (Shanno 1978).

    s ← −H g,    H = BFGS update of γI by the last step:  γ = sᵀq / qᵀq,  q = the change of the gradient along s

Coordinates are scaled by (a λ + ℓ)^−½, so that steps of length 1 are about right from the first one on: a = (1 − 1/C)/C is the curvature
of the softmax at equal probabilities, λ the variance of the features in the directions in which classes differ, or 1 for the bias. Where
features lie in the eigenbasis of a covariance close to their own, as a bank's do, λ follows its damped eigenvalues. With this scaling, a
longer memory saves hardly any steps.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from mmn_jax.linear.algebra import FloatLike, IntLike, mm
from mmn_jax.linear.frame import Frame
from mmn_jax.linear.line_search import any_in_batch, line_search
from mmn_jax.linear.passes import Point
from mmn_jax.linear.problem import HeadProblem

DAMPING = 10.0  # times the mean eigenvalue, added to all: a subset's covariance differs from that of the set it is drawn from
BFGS_STEPS = 2000  # default limit
LINE_LIMIT = 3  # evaluations of the slope along one step


def _scale(frame: Frame, point: Point) -> Float[Array, " q"]:
    """Returns the factor of each coordinate, from the first gradient."""
    classes, slopes = point.v.shape[0], point.gradient[:, :-1]
    along = mm(frame.z[:, :-1], slopes.T)
    spread = (frame.weight[:, None] * along**2).sum() / jnp.maximum((slopes**2).sum(), 1e-30)
    if frame.variance is not None:
        shape, above = frame.variance + DAMPING * frame.variance.mean(), 4.0  # 2 takes up to a fifth more steps, 8 about as many
        shape /= jnp.maximum((slopes**2 * shape).sum(), 1e-30) / jnp.maximum((slopes**2).sum(), 1e-30)
    else:  # the largest variances are well above their mean along slopes
        shape, above = jnp.ones_like(frame.ridge[:-1]), 2.0  # from 1 to 8, the number of steps changes by less than a tenth
    variance = jnp.ones_like(frame.ridge).at[:-1].set(jnp.maximum(above * spread * shape, 1e-12))
    return ((1 - 1 / classes) / classes * variance + frame.ridge) ** -0.5


def _direction(gradient: Float[Array, "C q"], s: Float[Array, "C q"], change: Float[Array, "C q"]) -> Float[Array, "C q"]:
    """Returns −H g, or −g where the curvature along the last step s isn't positive; `change` is that of the gradient along s."""
    curvature, square = (s * change).sum(), (change * change).sum()
    known = curvature > 0
    rho = jnp.where(known, 1.0 / jnp.where(known, curvature, 1.0), 0.0)
    along = rho * (s * gradient).sum()
    turned = jnp.where(known, curvature / jnp.where(known, square, 1.0), 1.0) * (gradient - along * change)
    return -(turned + (along - rho * (change * turned).sum()) * s)


def bfgs(
    problem: HeadProblem, frame: Frame, point: Point, tol: FloatLike, max_steps: IntLike = BFGS_STEPS, axis: str | None = None
) -> tuple[Point, Int[Array, ""], Int[Array, ""]]:
    """Minimises the objective of a problem by memoryless BFGS.

    Args:
      problem: the problem.
      frame: its Frame.
      point: the Point to start from.
      tol: the gradient norm to stop at.
      max_steps: the number of steps to stop after in any case.
      axis: the name of the vmapped axis, where there is one. The loop ends when the whole batch is done; a problem's result doesn't depend
        on the others.

    Returns:
      The last Point, the number of steps, and 0 Hessian products.
    """
    scale = _scale(frame, point)
    scaled = frame._replace(z=frame.z * scale, ridge=frame.ridge * scale**2)

    def active(point, steps):
        return (jnp.linalg.norm(point.gradient / scale) > tol) & (steps < max_steps)

    def step(state):
        point, s, change, steps = state
        going = active(point, steps)
        direction = jnp.where(going, _direction(point.gradient, s, change), 0.0)
        after = line_search(problem, scaled, point, direction, LINE_LIMIT, axis)
        return after, after.v - point.v, after.gradient - point.gradient, steps + going.astype(jnp.int32)

    point = point._replace(v=point.v / scale, gradient=point.gradient * scale)
    start = (point, jnp.zeros_like(point.v), jnp.zeros_like(point.v), jnp.zeros((), jnp.int32))
    point, _, _, steps = lax.while_loop(lambda state: any_in_batch(active(state[0], state[3]), axis), step, start)
    return point._replace(v=point.v * scale, gradient=point.gradient / scale), steps, jnp.zeros_like(steps)
