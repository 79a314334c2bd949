"""Memoryless BFGS for a batch of small heads: each step takes two products of the size of the data, whatever the curvature (Shanno 1978).

    s ← −H g,    H = BFGS update of γI by the last step:  γ = ⟨s, q⟩ / ⟨q, q⟩,  q = the change of the gradient along s

⟨·, ·⟩ is an inner product in which steps of length 1 are about right from the first one on, and g the gradient in it. Where features are
the coordinates (`bfgs`), it weighs them by a λ + ℓ: a = (1 − 1/C)/C is the curvature of the softmax at equal probabilities, λ the variance
of the features in the directions in which classes differ, or 1 for the bias. Where features lie in the eigenbasis of a covariance close to
their own, as a bank's do, λ follows its damped eigenvalues. With this scaling, a longer memory saves hardly any steps. Heads with fewer
examples than dimensions have other coordinates (`sample_space.py`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
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

Iterate = Any  # a NamedTuple of arrays; which one, only the functions of a Geometry know
Coordinates = Any  # an array, or a tree of arrays


class Geometry(NamedTuple):
    """What `descend` needs to know of a problem.

    inner: ⟨a, b⟩. coordinates: iterate → its coordinates. gradient: iterate → its gradient in this inner product. norm: iterate → the norm
    of the gradient over W and b. search: (iterate, step) → an iterate near the minimum along the step.
    """

    inner: Callable[[Coordinates, Coordinates], Float[Array, ""]]
    coordinates: Callable[[Iterate], Coordinates]
    gradient: Callable[[Iterate], Coordinates]
    norm: Callable[[Iterate], Float[Array, ""]]
    search: Callable[[Iterate, Coordinates], Iterate]


def mean_curvature(classes: int) -> float:
    """Returns the curvature of the softmax at equal probabilities."""
    return (1 - 1 / classes) / classes


def _direction(
    gradient: Coordinates, s: Coordinates, change: Coordinates, inner: Callable[[Coordinates, Coordinates], Float[Array, ""]]
) -> Coordinates:
    """Returns −H g, or −g where the curvature along the last step s isn't positive; `change` is that of the gradient along s."""
    curvature, square = inner(s, change), inner(change, change)
    known = curvature > 0
    rho = jnp.where(known, 1.0 / jnp.where(known, curvature, 1.0), 0.0)
    gamma = jnp.where(known, curvature / jnp.where(known, square, 1.0), 1.0)
    along = rho * inner(s, gradient)
    back = along - rho * gamma * (inner(change, gradient) - along * square)
    return jax.tree.map(lambda g, q, s: -(gamma * (g - along * q) + back * s), gradient, change, s)


def descend(geometry: Geometry, point: Iterate, tol: FloatLike, max_steps: IntLike, axis: str | None) -> tuple[Iterate, Int[Array, ""]]:
    """Minimises by memoryless BFGS.

    Args:
      geometry: of the problem.
      point: the iterate to start from.
      tol: the gradient norm to stop at.
      max_steps: the number of steps to stop after in any case.
      axis: the name of the vmapped axis, where there is one. The loop ends when the whole batch is done; a problem's result doesn't depend
        on the others.

    Returns:
      The last iterate, and the number of steps.
    """

    def active(point, steps):
        return (geometry.norm(point) > tol) & (steps < max_steps)

    def difference(after, before):
        return jax.tree.map(jnp.subtract, after, before)

    def step(state):
        point, s, change, steps = state
        going, gradient = active(point, steps), geometry.gradient(point)
        s = jax.tree.map(lambda one: jnp.where(going, one, 0.0), _direction(gradient, s, change, geometry.inner))
        after = geometry.search(point, s)
        moved, change = difference(*map(geometry.coordinates, (after, point))), difference(geometry.gradient(after), gradient)
        return after, moved, change, steps + going.astype(jnp.int32)

    zeros = jax.tree.map(jnp.zeros_like, geometry.coordinates(point))
    start = (point, zeros, zeros, jnp.zeros((), jnp.int32))
    point, _, _, steps = lax.while_loop(lambda state: any_in_batch(active(state[0], state[3]), axis), step, start)
    return point, steps


def _curvature(frame: Frame, point: Point) -> Float[Array, " q"]:
    """Returns a λ + ℓ for each coordinate, from the first gradient."""
    slopes = point.gradient[:, :-1]
    along = mm(frame.z[:, :-1], slopes.T)
    spread = (frame.weight[:, None] * along**2).sum() / jnp.maximum((slopes**2).sum(), 1e-30)
    if frame.variance is not None:
        shape, above = frame.variance + DAMPING * frame.variance.mean(), 4.0  # 2 takes up to a fifth more steps, 8 about as many
        shape /= jnp.maximum((slopes**2 * shape).sum(), 1e-30) / jnp.maximum((slopes**2).sum(), 1e-30)
    else:  # the largest variances are well above their mean along slopes
        shape, above = jnp.ones_like(frame.ridge[:-1]), 2.0  # from 1 to 8, the number of steps changes by less than a tenth
    variance = jnp.ones_like(frame.ridge).at[:-1].set(jnp.maximum(above * spread * shape, 1e-12))
    return mean_curvature(len(point.v)) * variance + frame.ridge


def bfgs(
    problem: HeadProblem, frame: Frame, point: Point, tol: FloatLike, max_steps: IntLike = BFGS_STEPS, axis: str | None = None
) -> tuple[Point, Int[Array, ""], Int[Array, ""]]:
    """Minimises the objective of a problem in a Frame.

    Args:
      problem: the problem.
      frame: its Frame.
      point: the Point to start from.
      tol: as for `descend`.
      max_steps: as for `descend`.
      axis: as for `descend`.

    Returns:
      The last Point, the number of steps, and 0 Hessian products.
    """
    curvature = _curvature(frame, point)
    inverse = 1 / curvature
    geometry = Geometry(
        inner=lambda a, b: (a * b * curvature).sum(),
        coordinates=lambda point: point.v,
        gradient=lambda point: point.gradient * inverse,
        norm=lambda point: jnp.linalg.norm(point.gradient),
        search=lambda point, s: line_search(problem, frame, point, s, LINE_LIMIT, axis),
    )
    point, steps = descend(geometry, point, tol, max_steps, axis)
    return point, steps, jnp.zeros_like(steps)
