"""The convex solver: one linear softmax head, fitted to a stated gradient norm.

    minimise over W, b:  Σ_j ω_j · CE(W x_j + b + a_j, y_j) / Σ_j ω_j  +  (ℓ/2) ‖W‖²

Every way of training a head in this project is this problem with other weights ω and offsets a (`weighting.py`). `fit_head` solves one
problem by truncated Newton (`newton.py`) in the eigenbasis of its features (`frame.py`); `fit_batch` solves many small ones at once by
BFGS (`bfgs.py`).
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from mmn_jax.linear.algebra import mm
from mmn_jax.linear.bfgs import BFGS_STEPS, bfgs
from mmn_jax.linear.frame import eigenframe, into_frame, out_of_frame, spanframe
from mmn_jax.linear.line_search import point_at
from mmn_jax.linear.newton import BLOCK_EXAMPLES, BLOCK_LIMIT, NEWTON_STEPS, newton
from mmn_jax.linear.problem import HeadProblem


class Solver(NamedTuple):
    """A way to solve a `HeadProblem`.

    frame: problem → its Frame. descend: (problem, frame, point, tol, max_steps) → the Point where the gradient norm is down to tol or
    max_steps are used up, the steps and the Hessian products that it took. max_steps: the limit where a caller gives none.
    """

    frame: Callable
    descend: Callable
    max_steps: int


NEWTON = Solver(eigenframe, newton, NEWTON_STEPS)
BFGS = Solver(spanframe, bfgs, BFGS_STEPS)


class HeadInfo(NamedTuple):
    """How a solve ended.

    gradient_norm: at the result, with features centred, as b is free. steps and products: how many steps and Hessian products it took.
    converged: whether gradient_norm is tol or less; where it isn't, the solver ran out of steps or met a NaN.
    """

    gradient_norm: jax.Array
    steps: jax.Array
    products: jax.Array
    converged: jax.Array


def fit_head(
    problem: HeadProblem, theta: jax.Array, tol: float = 1e-6, *, solver: Solver = NEWTON, max_steps: int | None = None
) -> tuple[jax.Array, HeadInfo]:
    """Fits one head, starting from theta.

    Args:
      problem: the data of one `HeadProblem`.
      theta: [C, d+1] rows [W b] to start from; zeros will do.
      tol: the gradient norm, over [W b] and for the mean loss, to stop at.
      solver: NEWTON suits a large problem, BFGS a small one.
      max_steps: the number of steps after which the solver stops even if it hasn't reached tol; by default the solver's own.

    Returns:
      theta [C, d+1] with biases centred over classes, and a `HeadInfo`, whose `converged` says whether tol was reached
      (`warn_unless_converged` reports it). W has a mean over classes of up to tol / ℓ where theta had one: only the ridge depends on it.
    """
    frame = solver.frame(problem)
    v = into_frame(theta, frame)
    limit = solver.max_steps if max_steps is None else max_steps
    point, steps, products = solver.descend(problem, frame, point_at(problem, frame, v, mm(frame.z, v.T)), tol, limit)
    norm = jnp.linalg.norm(point.gradient)
    return out_of_frame(point.v, frame), HeadInfo(norm, steps, products, norm <= tol)


fit_one = jax.jit(fit_head)  # for single problems, so that they share its compiled programs


def fit_batch(
    problems: HeadProblem,
    theta: jax.Array,
    tol: float = 1e-6,
    *,
    shared: tuple[str, ...] = (),
    frame: Callable = spanframe,
    max_steps: int | None = None,
) -> tuple[jax.Array, HeadInfo]:
    """Fits B small heads at once, each as if it were alone: theta [B, C, d+1] and a `HeadInfo` of fields [B].

    Args:
      problems: a `HeadProblem` whose fields begin with an axis of length B.
      theta: [C, d+1] rows that all start from.
      tol: as for `fit_head`.
      shared: the fields of problems that are one and the same for all of them, and have no such axis.
      frame: problem → its Frame.
      max_steps: as for `fit_head`, of each problem.
    """
    axes = HeadProblem(*(None if name in shared else 0 for name in HeadProblem._fields))  # type: ignore[arg-type]  # axes, not arrays
    solver = Solver(frame, partial(bfgs, axis="batch"), BFGS.max_steps)

    def fit(problem):
        return fit_head(problem, theta, tol, solver=solver, max_steps=max_steps)

    return jax.vmap(fit, in_axes=(axes,), axis_name="batch")(problems)


def warn_unless_converged(info: HeadInfo, what: str) -> None:
    """Raises scikit-learn's `ConvergenceWarning` if a solve did not converge; for callers of `fit_head` and `fit_batch` outside of jit.

    Args:
      info: of one solve, or of a batch with fields [B].
      what: what was solved, to begin the message with.
    """
    converged, norm, steps = (np.atleast_1d(jax.device_get(field)) for field in (info.converged, info.gradient_norm, info.steps))
    if converged.all():
        return
    from sklearn.exceptions import ConvergenceWarning  # scikit-learn is slow to import

    failed = np.flatnonzero(~converged)
    which = f"{what}: " if len(converged) == 1 else f"{what}: {len(failed)} of {len(converged)} heads did not converge; the first "
    ended = f"stopped after {steps[failed[0]]} steps at a gradient norm of {norm[failed[0]]:.1e}"
    if np.isfinite(norm[failed]).all():
        advice = "above tol; raise max_steps or tol, or strengthen the ridge l2"
    else:
        advice = "check x, weight and offset for values that are not finite or are very large"
    warnings.warn(f"{which}{ended}, {advice}", ConvergenceWarning, stacklevel=2)


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
