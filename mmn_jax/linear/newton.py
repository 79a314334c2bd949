"""Truncated Newton for one large head: conjugate gradients solve each Newton system, preconditioned by the Hessian's per-class blocks."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from mmn_jax.linear.algebra import HIGHEST, FloatLike, IntLike, mm, solve_by_cholesky
from mmn_jax.linear.frame import Frame
from mmn_jax.linear.line_search import Point, line_search, point_at
from mmn_jax.linear.problem import HeadProblem

NEWTON_STEPS = 100  # default limit
LINE_LIMIT = 30  # evaluations of the slope along one step
BLOCK_LIMIT = 2**27  # floats in all per-class blocks of a problem; beyond it only their diagonals are used
BLOCK_EXAMPLES = 256  # examples of largest curvature that enter a block in full; the others add to its diagonal only
PATIENCE = 20  # limit of products in one Newton step, or the price of the blocks if that is more, as long as the preconditioner is diagonal
MAX_PRODUCTS = 500  # limit in one Newton step


def _hessian_product(frame: Frame, probs: Float[Array, "n C"], direction: Float[Array, "C q"]) -> Float[Array, "C q"]:
    u = mm(frame.z, direction.T)
    pu = probs * u
    curved = pu - probs * pu.sum(1, keepdims=True)
    return mm((curved * frame.weight[:, None]).T, frame.z) + direction * frame.ridge


class _Preconditioner(NamedTuple):
    """Inverses of the Hessian's per-class blocks.

    diagonal: inverse diagonals. factors: inverse Cholesky factors, used once `whole` is set; empty where blocks are too large.
    """

    diagonal: Float[Array, "C q"]
    factors: Float[Array, "C q q"] | Float[Array, " 0"]
    whole: Bool[Array, ""]


def _curvature(frame: Frame, probs: Float[Array, "n C"]) -> tuple[Float[Array, "C n"], Float[Array, "C q"], Float[Array, "C 1"]]:
    """Returns the curvature of each example for each class, the blocks' diagonals, and a floor for these against rounding."""
    curvature = (probs * (1.0 - probs) * frame.weight[:, None]).T
    diagonal = mm(curvature, frame.z**2) + frame.ridge
    return curvature, diagonal, 1e-6 * diagonal.max(1, keepdims=True)


def _by_diagonal(frame, probs):
    """Returns the diagonal preconditioner: it costs next to nothing, and is enough for a problem that starts near its optimum."""
    _, diagonal, floor = _curvature(frame, probs)
    classes, width = diagonal.shape
    usable = classes * width * width <= BLOCK_LIMIT
    return _Preconditioner(
        1.0 / (diagonal + floor), jnp.zeros((classes, width, width) if usable else (0,), diagonal.dtype), jnp.array(False)
    )


def _by_block(frame, probs):
    """Returns the block preconditioner, which saves products where there would be many."""
    curvature, diagonal, floor = _curvature(frame, probs)
    heavy, index = lax.top_k(curvature, min(BLOCK_EXAMPLES, len(frame.z)))
    rows = frame.z[index] * jnp.sqrt(heavy)[..., None]  # [C, m, r+1]
    rest = jnp.maximum(diagonal - (rows**2).sum(1), frame.ridge) + floor
    block = jnp.einsum("cmi,cmj->cij", rows, rows, precision=HIGHEST) + jax.vmap(jnp.diag)(rest)
    factors = jax.vmap(solve_by_cholesky, (0, None))(block, jnp.eye(diagonal.shape[1], dtype=block.dtype))
    return _Preconditioner(1.0 / (diagonal + floor), factors, jnp.array(True))


def _price(frame: Frame) -> int:
    """Returns what computing the blocks costs, in Hessian products; the numbers were measured on a CPU.

    They are computed anew as soon as so many products have been taken with the old ones. Whenever the best moment would have been, this
    takes at most twice as long.
    """
    n, q = frame.z.shape
    return round(2.5 + 0.8 * q * (min(BLOCK_EXAMPLES, n) + 2 / 3 * q) / n)


def _renewed(
    frame: Frame, probs: Float[Array, "n C"], old: _Preconditioner, spent: Int[Array, ""]
) -> tuple[_Preconditioner, Int[Array, ""]]:
    """Returns the preconditioner for the next Newton step and the number of products taken with it, given both of the last step."""
    fresh = partial(_by_diagonal, frame, probs) if old.factors.ndim == 1 else partial(_by_block, frame, probs)
    return lax.cond(spent > _price(frame), lambda: (fresh(), jnp.zeros_like(spent)), lambda: (old, spent))


def _precondition(preconditioner: _Preconditioner, r: Float[Array, "C q"]) -> Float[Array, "C q"]:
    if preconditioner.factors.ndim == 1:
        return preconditioner.diagonal * r

    def whole():
        half = jnp.einsum("cij,cj->ci", preconditioner.factors, r, precision=HIGHEST)
        return jnp.einsum("cji,cj->ci", preconditioner.factors, half, precision=HIGHEST)

    return lax.cond(preconditioner.whole, whole, lambda: preconditioner.diagonal * r)


# lineax.CG (0.1.1) wouldn't serve. It counts its steps and takes pytrees, any norm and a traced limit, but it stops only once its last
# step is below atol, too, which takes more products, and where curvature vanishes it returns NaN instead of the last s.
def _newton_direction(
    frame: Frame, point: Point, preconditioner: _Preconditioner, tolerance: Float[Array, ""], limit: IntLike
) -> tuple[Float[Array, "C q"], Int[Array, ""]]:
    """Solves H s = −g by preconditioned conjugate gradients, to a residual norm of `tolerance`; returns s and the number of products."""

    def unfinished(state):
        _, r, _, rho, k = state
        return (jnp.linalg.norm(r) > tolerance) & (rho > 0) & (k < limit)

    def step(state):
        s, r, p, rho, k = state
        hp = _hessian_product(frame, point.probs, p)
        curvature = (p * hp).sum()
        usable = curvature > 0  # rounding can leave a direction without curvature: stop there and keep s
        alpha = jnp.where(usable, rho / jnp.where(usable, curvature, 1.0), 0.0)
        r = r - alpha * hp
        q = _precondition(preconditioner, r)
        new = jnp.where(usable, (r * q).sum(), 0.0)
        return s + alpha * p, r, q + (new / rho) * p, new, k + 1

    r = -point.gradient
    q = _precondition(preconditioner, r)
    s, _, _, _, k = lax.while_loop(unfinished, step, (jnp.zeros_like(r), r, q, (r * q).sum(), jnp.zeros((), jnp.int32)))
    return s, k


def newton(
    problem: HeadProblem, frame: Frame, point: Point, tol: FloatLike, max_steps: IntLike = NEWTON_STEPS
) -> tuple[Point, Int[Array, ""], Int[Array, ""]]:
    """Minimises the objective of a problem by truncated Newton.

    Args:
      problem: the problem.
      frame: its Frame.
      point: the Point to start from.
      tol: the gradient norm to stop at.
      max_steps: the number of Newton steps to stop after in any case.

    Returns:
      The last Point, the number of Newton steps, and the number of Hessian products.
    """
    cold = point_at(problem, frame, jnp.zeros_like(point.v), jnp.zeros_like(point.logits))
    cold_norm = jnp.linalg.norm(cold.gradient)

    def unfinished(state):
        point, _, steps, _, _ = state
        return (jnp.linalg.norm(point.gradient) > tol) & (steps < max_steps)

    def step(state):
        point, preconditioner, steps, products, spent = state
        preconditioner, spent = _renewed(frame, point.probs, preconditioner, spent)
        norm = jnp.linalg.norm(point.gradient)
        tolerance = jnp.maximum(jnp.minimum(0.25, jnp.sqrt(norm / cold_norm)) * norm, 0.5 * tol)
        patience = max(PATIENCE, _price(frame))
        limit = MAX_PRODUCTS if preconditioner.factors.ndim == 1 else jnp.where(preconditioner.whole, MAX_PRODUCTS, patience)
        s, k = _newton_direction(frame, point, preconditioner, tolerance, limit)
        return line_search(problem, frame, point, s, LINE_LIMIT), preconditioner, steps + 1, products + k, spent + k

    none = jnp.zeros((), jnp.int32)
    start = (point, _by_diagonal(frame, point.probs), none, none, none)
    point, _, steps, products, _ = lax.while_loop(unfinished, step, start)
    return point, steps, products
