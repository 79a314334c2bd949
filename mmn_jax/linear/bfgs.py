"""Memoryless BFGS for a batch of small heads: two products of the size of the data a step, whatever the curvature (Shanno 1978).

    s ← −H g,    H = BFGS update of γI by the last step:  γ = sᵀq / qᵀq,  q = the change of the gradient along s

Coordinates are scaled by (a λ + ℓ)^−½, so that a step of length 1 is about right from the start on: a = (1 − 1/C)/C is the curvature of
the softmax where nothing is known yet, λ the variance of the features where classes differ, 1 for the bias. Where features lie in the
eigenbasis of a covariance near their own, as a bank's do, λ follows its eigenvalues, damped. With that, a longer memory saves next
to no steps.
"""

import jax
import jax.numpy as jnp
from jax import lax

from mmn_jax.linear.algebra import mm
from mmn_jax.linear.frame import Frame
from mmn_jax.linear.line_search import Point, any_in_batch, line_search
from mmn_jax.linear.problem import HeadProblem

DAMPING = 10.0  # mean eigenvalues added to all: a head differs from what it is drawn from
BFGS_STEPS = 2000  # at most, by default
LINE_LIMIT = 3  # looks along one step


def _scale(frame, point):
    """[r+1] what coordinates are multiplied by, from the first gradient."""
    classes, slopes = point.v.shape[0], point.gradient[:, :-1]
    along = mm(frame.z[:, :-1], slopes.T)
    spread = (frame.weight[:, None] * along**2).sum() / jnp.maximum((slopes**2).sum(), 1e-30)
    if frame.variance is None:  # above: the largest are well above this mean
        shape, above = jnp.ones_like(frame.ridge[:-1]), 2.0  # 1 to 8 take as many steps, within a tenth
    else:
        shape, above = frame.variance + DAMPING * frame.variance.mean(), 4.0  # 2 takes up to a fifth more, 8 as many
        shape /= jnp.maximum((slopes**2 * shape).sum(), 1e-30) / jnp.maximum((slopes**2).sum(), 1e-30)
    variance = jnp.ones_like(frame.ridge).at[:-1].set(jnp.maximum(above * spread * shape, 1e-12))
    return ((1 - 1 / classes) / classes * variance + frame.ridge) ** -0.5


def _direction(gradient, s, change):
    """−H g; the gradient itself where the last step tells no curvature."""
    curvature, square = (s * change).sum(), (change * change).sum()
    known = curvature > 0
    rho = jnp.where(known, 1.0 / jnp.where(known, curvature, 1.0), 0.0)
    along = rho * (s * gradient).sum()
    turned = jnp.where(known, curvature / jnp.where(known, square, 1.0), 1.0) * (gradient - along * change)
    return -(turned + (along - rho * (change * turned).sum()) * s)


def bfgs(
    problem: HeadProblem, frame: Frame, point: Point, tol: float, max_steps: int = BFGS_STEPS, axis: str | None = None
) -> tuple[Point, jax.Array, jax.Array]:
    """The Point where the gradient norm is down to tol, the steps that it took, and 0 Hessian products. axis: the name of the
    vmapped axis, where there is one; the batch is done when all of it is, and a problem's result doesn't depend on the others."""
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
