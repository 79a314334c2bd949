"""Truncated Newton for one large head: conjugate gradients solve each Newton system, preconditioned by the Hessian's per-class blocks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from mmn_jax.linear.algebra import HIGHEST, FloatLike, IntLike, mm, solve_by_cholesky
from mmn_jax.linear.frame import Frame
from mmn_jax.linear.line_search import line_search
from mmn_jax.linear.passes import Block, Point, block_at, point_at, total, whole
from mmn_jax.linear.problem import HeadProblem

NEWTON_STEPS = 100  # default limit
LINE_LIMIT = 30  # evaluations of the slope along one step
BLOCK_LIMIT = 2**27  # floats in the examples of all per-class blocks; where there would be more, blocks have fewer examples
BLOCK_EXAMPLES = 256  # examples of largest curvature that enter a block in full; the others add to its diagonal only
PATIENCE = 20  # limit of products in one Newton step, or the price of the blocks if that is more, as long as the preconditioner is diagonal
MAX_PRODUCTS = 500  # limit in one Newton step
ROUNDING = 1e-5  # share of FᵀF that is left out, so that diag(scale) − FᵀF stays positive


def _hessian_product(
    problem: HeadProblem, frame: Frame, point: Point, direction: Float[Array, "C q"], size: int | None = None
) -> Float[Array, "C q"]:
    def term(block):
        u = mm(block.z, direction.T)
        pu = block.probs * u
        curved = pu - block.probs * pu.sum(1, keepdims=True)
        return mm((curved * block.weight[:, None]).T, block.z)

    return total(term, problem, frame, point, size) + direction * frame.ridge


class _Preconditioner(NamedTuple):
    """Inverses of the Hessian's per-class blocks.

    They are diag(scale), the inverse diagonals, until `whole` is set; from then on FᵀF of the factors F, or diag(scale) − FᵀF where F has
    fewer rows than columns. factors: empty where not even one row fits.
    """

    scale: Float[Array, "C q"]
    factors: Float[Array, "C m q"] | Float[Array, " 0"]
    whole: Bool[Array, ""]


def heavy_examples(examples: int, width: int, classes: int) -> int:
    """Returns how many examples of largest curvature enter a block in full; the others add to its diagonal only. 0: there are no blocks."""
    return min(BLOCK_EXAMPLES, examples, BLOCK_LIMIT // (classes * width))


def _curvature(block: Block) -> Float[Array, "C b"]:
    """Returns the curvature of each example for each class."""
    return (block.probs * (1.0 - block.probs) * block.weight[:, None]).T


def _diagonal(problem, frame, point, size):
    """Returns the diagonals [C, q] of all blocks, and a floor [C, 1] for them against rounding."""
    diagonal = total(lambda block: mm(_curvature(block), block.z**2), problem, frame, point, size) + frame.ridge
    return diagonal, 1e-6 * diagonal.max(1, keepdims=True)


def _heaviest(problem, frame, point, most, size):
    """Returns the largest curvatures [C, most] of each class, and the positions of their examples."""
    if size is None:
        return lax.top_k(_curvature(whole(problem, frame, point)), most)

    def merge(number, so_far):
        curvature = _curvature(block_at(problem, frame, point.v, size, number))
        index = jnp.broadcast_to(number * size + jnp.arange(size, dtype=jnp.int32), curvature.shape)
        heavy, index = (jnp.concatenate(pair, axis=1) for pair in zip(so_far, (curvature, index), strict=True))
        heavy, place = lax.top_k(heavy, most)
        return heavy, jnp.take_along_axis(index, place, axis=1)

    nothing = jnp.full((len(point.v), most), -1.0, frame.z.dtype), jnp.zeros((len(point.v), most), jnp.int32)
    return lax.fori_loop(0, len(frame.z) // size, merge, nothing)


def _by_diagonal(problem, frame, point, size=None):
    """Returns the diagonal preconditioner: it costs next to nothing, and is enough for a problem that starts near its optimum."""
    diagonal, floor = _diagonal(problem, frame, point, size)
    classes, width = diagonal.shape
    heavy = heavy_examples(len(frame.z), width, classes)
    shape = (classes, min(heavy, width), width) if heavy else (0,)
    return _Preconditioner(1.0 / (diagonal + floor), jnp.zeros(shape, diagonal.dtype), jnp.array(False))


def _by_block(problem, frame, point, size=None):
    """Returns the block preconditioner, which saves products where there would be many.

    With D the diagonal and U [m, q] the heaviest examples of a class, scaled, its block is D + UᵀU. The inverse is by Cholesky, or, with
    fewer examples than coordinates, D⁻¹ − D⁻¹Uᵀ (I + U D⁻¹ Uᵀ)⁻¹ U D⁻¹ (Woodbury).
    """
    diagonal, floor = _diagonal(problem, frame, point, size)
    classes, width = diagonal.shape
    heavy, index = _heaviest(problem, frame, point, heavy_examples(len(frame.z), width, classes), size)
    rows = frame.z[index] * jnp.sqrt(heavy)[..., None]  # [C, m, q]
    rest = jnp.maximum(diagonal - (rows**2).sum(1), frame.ridge) + floor
    if _is_low_rank(rows):
        scaled = rows / rest[:, None]
        inner = jnp.einsum("cmi,cni->cmn", scaled, rows, precision=HIGHEST) + jnp.eye(rows.shape[1], dtype=rows.dtype)
        return _Preconditioner(1.0 / rest, jax.vmap(solve_by_cholesky)(inner, scaled), jnp.array(True))
    block = jnp.einsum("cmi,cmj->cij", rows, rows, precision=HIGHEST) + jax.vmap(jnp.diag)(rest)
    factors = jax.vmap(solve_by_cholesky, (0, None))(block, jnp.eye(width, dtype=block.dtype))
    return _Preconditioner(1.0 / (diagonal + floor), factors, jnp.array(True))


def _is_low_rank(rows: Float[Array, "C m q"]) -> bool:
    return rows.shape[1] < rows.shape[2]


def _price(frame: Frame, classes: int) -> int:
    """Returns what computing the blocks costs, in Hessian products; the numbers were measured on a CPU.

    They are computed anew as soon as so many products have been taken with the old ones. Whenever the best moment would have been, this
    takes at most twice as long.
    """
    n, q = frame.z.shape
    m = heavy_examples(n, q, classes)
    side = min(m, q)
    return round(2.5 + 0.8 * side * (max(m, q) + 2 / 3 * side) / n)


def _renewed(
    problem: HeadProblem, frame: Frame, point: Point, old: _Preconditioner, spent: Int[Array, ""], size: int | None
) -> tuple[_Preconditioner, Int[Array, ""]]:
    """Returns the preconditioner for the next Newton step and the number of products taken with it, given both of the last step."""
    make = _by_diagonal if old.factors.ndim == 1 else _by_block
    due = spent > _price(frame, len(point.v))
    return lax.cond(due, lambda: (make(problem, frame, point, size), jnp.zeros_like(spent)), lambda: (old, spent))


def _precondition(preconditioner: _Preconditioner, r: Float[Array, "C q"]) -> Float[Array, "C q"]:
    if preconditioner.factors.ndim == 1:
        return preconditioner.scale * r

    def by_factors():
        half = jnp.einsum("cij,cj->ci", preconditioner.factors, r, precision=HIGHEST)
        full = jnp.einsum("cji,cj->ci", preconditioner.factors, half, precision=HIGHEST)
        return preconditioner.scale * r - (1.0 - ROUNDING) * full if _is_low_rank(preconditioner.factors) else full

    return lax.cond(preconditioner.whole, by_factors, lambda: preconditioner.scale * r)


# lineax.CG (0.1.1) wouldn't serve. It counts its steps and takes pytrees, any norm and a traced limit, but it stops only once its last
# step is below atol, too, which takes more products, and where curvature vanishes it returns NaN instead of the last s.
def _newton_direction(
    problem: HeadProblem,
    frame: Frame,
    point: Point,
    preconditioner: _Preconditioner,
    tolerance: Float[Array, ""],
    limit: IntLike,
    size: int | None,
) -> tuple[Float[Array, "C q"], Int[Array, ""]]:
    """Solves H s = −g by preconditioned conjugate gradients, to a residual norm of `tolerance`; returns s and the number of products."""

    def unfinished(state):
        _, r, _, rho, k = state
        return (jnp.linalg.norm(r) > tolerance) & (rho > 0) & (k < limit)

    def step(state):
        s, r, p, rho, k = state
        hp = _hessian_product(problem, frame, point, p, size)
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
    problem: HeadProblem, frame: Frame, point: Point, tol: FloatLike, max_steps: IntLike = NEWTON_STEPS, size: int | None = None
) -> tuple[Point, Int[Array, ""], Int[Array, ""]]:
    """Minimises the objective of a problem by truncated Newton.

    Args:
      problem: the problem.
      frame: its Frame.
      point: the Point to start from.
      tol: the gradient norm to stop at.
      max_steps: the number of Newton steps to stop after in any case.
      size: of a block, where logits aren't kept (`passes.py`).

    Returns:
      The last Point, the number of Newton steps, and the number of Hessian products.
    """
    # products, as XLA 0.10 for CPUs may compute the softmax of constants when it compiles, slowly and, now and then, to NaN
    cold = point_at(problem, frame, 0.0 * point.v, 0.0 * point.logits, size)
    cold_norm = jnp.linalg.norm(cold.gradient)

    def unfinished(state):
        point, _, steps, _, _ = state
        return (jnp.linalg.norm(point.gradient) > tol) & (steps < max_steps)

    def step(state):
        point, preconditioner, steps, products, spent = state
        preconditioner, spent = _renewed(problem, frame, point, preconditioner, spent, size)
        norm = jnp.linalg.norm(point.gradient)
        tolerance = jnp.maximum(jnp.minimum(0.25, jnp.sqrt(norm / cold_norm)) * norm, 0.5 * tol)
        patience = max(PATIENCE, _price(frame, len(point.v)))
        limit = MAX_PRODUCTS if preconditioner.factors.ndim == 1 else jnp.where(preconditioner.whole, MAX_PRODUCTS, patience)
        s, k = _newton_direction(problem, frame, point, preconditioner, tolerance, limit, size)
        return line_search(problem, frame, point, s, LINE_LIMIT, size=size), preconditioner, steps + 1, products + k, spent + k

    none = jnp.zeros((), jnp.int32)
    start = (point, _by_diagonal(problem, frame, point, size), none, none, none)
    point, _, steps, products, _ = lax.while_loop(unfinished, step, start)
    return point, steps, products
