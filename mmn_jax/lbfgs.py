"""L-BFGS for a batch of small heads: two products of the size of the data a step, whatever the curvature.

The steps are taken in z (aλ + ℓ)^−¼, half way to whitened coordinates: λ are the variances of z's columns, a = (1 − 1/C)/C the
curvature of the softmax where nothing is known yet. Whitening all the way suits the first step, not whitening at all the last ones, in
which few examples are left that curve; half way takes a half to a third of the steps of either (Liu & Nocedal 1989 for the method).
"""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from mmn_jax.frame import Frame, HeadProblem, Point, line_search

MEMORY = 6
LINE_LIMIT = 3  # looks along one step


def lbfgs(problem: HeadProblem, frame: Frame, point: Point, tol: float, max_steps: int = 1000) -> tuple[Point, jax.Array, jax.Array]:
    """The Point where the gradient norm is down to tol, the steps that it took, and 0 Hessian products."""
    classes = point.v.shape[0]
    scale = ((1 - 1 / classes) / classes * frame.variance + frame.ridge) ** -0.25
    scaled = frame._replace(z=frame.z * scale, ridge=frame.ridge * scale**2)
    memory = optax.scale_by_lbfgs(MEMORY)

    def unfinished(state):
        point, _, steps = state
        return (jnp.linalg.norm(point.gradient / scale) > tol) & (steps < max_steps)

    def step(state):
        point, past, steps = state
        direction, past = memory.update(point.gradient, past, point.v)
        return line_search(problem, scaled, point, -direction, LINE_LIMIT), past, steps + 1

    point = point._replace(v=point.v / scale, gradient=point.gradient * scale)
    point, _, steps = lax.while_loop(unfinished, step, (point, memory.init(point.v), 0))
    return point._replace(v=point.v * scale, gradient=point.gradient / scale), steps, jnp.zeros_like(steps)
