"""The convex solver: one linear softmax head, fitted to a stated gradient norm.

    minimise over W, b:  Σ_j ω_j · CE(W x_j + b + a_j, y_j) / Σ_j ω_j  +  (ℓ/2) ‖W‖²

Every way of training a head in this project is this problem with other weights ω and offsets a (`weighting.py`). `fit_head` solves one
problem by truncated Newton (`newton.py`) in the eigenbasis of its features (`frame.py`); `fit_batch` solves many small ones at once by
BFGS (`bfgs.py`).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from mmn_jax.linear.algebra import mm
from mmn_jax.linear.bfgs import bfgs
from mmn_jax.linear.frame import eigenframe, into_frame, out_of_frame, spanframe
from mmn_jax.linear.line_search import point_at
from mmn_jax.linear.newton import BLOCK_EXAMPLES, BLOCK_LIMIT, newton
from mmn_jax.linear.problem import HeadProblem


class Solver(NamedTuple):
    """The Frame of a problem, and descend(problem, frame, point, tol) → the Point where the gradient norm is down to tol, the steps
    and the Hessian products that it took."""

    frame: Callable
    descend: Callable


NEWTON = Solver(eigenframe, newton)
BFGS = Solver(spanframe, bfgs)


class HeadInfo(NamedTuple):
    """How a solve ended: gradient norm at the result (features centred, as b is free), steps, Hessian products."""

    gradient_norm: jax.Array
    steps: jax.Array
    products: jax.Array


def fit_head(problem: HeadProblem, theta: jax.Array, tol: float = 1e-6, *, solver: Solver = NEWTON) -> tuple[jax.Array, HeadInfo]:
    """Fits one head, starting from theta.

    Args:
      problem: the data of one `HeadProblem`.
      theta: [C, d+1] rows [W b] to start from; zeros will do.
      tol: the gradient norm, over [W b] and for the mean loss, to stop at.
      solver: NEWTON suits a large problem, BFGS a small one. Both end after a number of steps, too.

    Returns:
      theta [C, d+1] with biases centred over classes, and a `HeadInfo`, whose gradient_norm tells whether tol was reached. W has a
      mean over classes of up to tol / ℓ where theta had one: nothing but the ridge sees it.
    """
    frame = solver.frame(problem)
    v = into_frame(theta, frame)
    point, steps, products = solver.descend(problem, frame, point_at(problem, frame, v, mm(frame.z, v.T)), tol)
    return out_of_frame(point.v, frame), HeadInfo(jnp.linalg.norm(point.gradient), steps, products)


fit_one = jax.jit(fit_head)  # for single problems, so that they share its compiled programs


def fit_batch(
    problems: HeadProblem, theta: jax.Array, tol: float = 1e-6, *, shared: tuple[str, ...] = (), frame: Callable = spanframe
) -> tuple[jax.Array, HeadInfo]:
    """Fits B small heads at once, each as if it were alone: theta [B, C, d+1] and a `HeadInfo` of fields [B].

    Args:
      problems: a `HeadProblem` whose fields begin with an axis of length B.
      theta: [C, d+1] rows that all start from.
      tol: as for `fit_head`.
      shared: the fields of problems that are one and the same for all of them, and have no such axis.
      frame: problem → its Frame.
    """
    axes = HeadProblem(*(None if name in shared else 0 for name in HeadProblem._fields))  # type: ignore[arg-type]  # axes, not arrays
    solver = Solver(frame, partial(bfgs, axis="batch"))
    return jax.vmap(lambda problem: fit_head(problem, theta, tol, solver=solver), in_axes=(axes,), axis_name="batch")(problems)


def solve_bytes(examples: int, dim: int, classes: int) -> int:
    """A forecast of the working memory of one large solve: its frame, what Newton's method makes of the logits, its per-class blocks."""
    side = min(examples, dim)
    width, frame = side + 1, examples * side + 3 * side * side
    blocks = classes * width * (3 * width + min(examples, BLOCK_EXAMPLES)) if classes * width * width <= BLOCK_LIMIT else 0
    return 4 * (4 * examples * classes + blocks + frame)


def head_flops(examples: int, dim: int, classes: int, steps: ArrayLike, products: ArrayLike, solver: Solver = NEWTON) -> np.ndarray:
    """What the matrix products of a solve cost: into its frame, where that has a basis, and out of it, one product with [n, r] and one
    with its transpose for every step's gradient and line search, and for every Hessian product."""
    side = min(examples, dim)
    whole = 4 * examples * dim * dim if solver.frame is eigenframe else 0
    basis = 5 * examples * examples * dim if examples < dim else whole  # Gram matrix, basis, features in it
    moved = 4 * classes * side * dim if basis else 0
    return basis + moved + 4.0 * examples * (side + 1) * classes * (np.asarray(steps) + np.asarray(products) + 1)


def warn_unless_converged(info: HeadInfo, what: str) -> None:
    """PROVISIONAL"""
