"""The convex solver: one linear softmax head, fitted to a stated gradient norm.

    minimise over W, b:  Σ_j ω_j · CE(W x_j + b + a_j, y_j) / Σ_j ω_j  +  (ℓ/2) ‖W‖²

Every way of training a head in this project is this problem with its own weights ω and offsets a (`weighting.py`). `fit_head` solves one
problem by truncated Newton (`newton.py`) in the eigenbasis of its features (`frame.py`); `fit_batch` solves many small ones at once by
BFGS (`bfgs.py`), in the space of their examples where these are fewer than the dimensions (`sample_space.py`).
"""

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from mmn_jax.devices import SOLVER_OPTIONS
from mmn_jax.linear.algebra import AnyArray, FloatLike, IntLike
from mmn_jax.linear.bfgs import BFGS_STEPS, bfgs
from mmn_jax.linear.frame import Frame, eigenframe, featureframe, into_frame, out_of_frame
from mmn_jax.linear.line_search import line_search
from mmn_jax.linear.newton import LINE_LIMIT, NEWTON_STEPS, heavy_examples, newton
from mmn_jax.linear.passes import Point, point_at
from mmn_jax.linear.problem import HeadProblem
from mmn_jax.linear.sample_space import fit_in_samples


class Solver(NamedTuple):
    """A way to solve a `HeadProblem`.

    frame: problem → its Frame. descend: (problem, frame, point, tol, max_steps) → the Point where the gradient norm is down to tol, or
    where max_steps are used up, the number of steps, and that of Hessian products. max_steps: the limit where a caller gives none. size:
    of the blocks of examples whose logits are in memory at a time, None for all at once. few: takes the place of both functions for a
    problem with fewer examples than dimensions, (problem, theta, tol, max_steps) → rows, gradient norm, number of steps.
    """

    frame: Callable[[HeadProblem], Frame]
    descend: Callable[[HeadProblem, Frame, Point, FloatLike, IntLike], tuple[Point, Int[Array, ""], Int[Array, ""]]]
    max_steps: int
    size: int | None = None
    few: Callable[[HeadProblem, Float[AnyArray, "C p"], FloatLike, IntLike], tuple[Array, Array, Array]] | None = None


NEWTON = Solver(eigenframe, newton, NEWTON_STEPS)
ALIGNED_NEWTON = Solver(featureframe, newton, NEWTON_STEPS)  # for features in the eigenbasis of their covariance (`eigen_coordinates`)
BFGS = Solver(featureframe, bfgs, BFGS_STEPS, few=fit_in_samples)


@cache  # a solver is a static argument: the same one has to come back, or else programs would be compiled again
def newton_in_blocks(solver: Solver, size: int) -> Solver:
    """Returns NEWTON or ALIGNED_NEWTON with logits of only `size` examples at a time in memory, for half as many products a second.

    The number of examples has to be a multiple of it (`pad_examples`).
    """
    return solver._replace(descend=partial(newton, size=size), size=size)


class HeadInfo(NamedTuple):
    """How a solve ended; the fields of a batch have an axis of its problems, and may be numpy's once they are on the host.

    gradient_norm: at the result, over W and b with features centred. steps: of the solver. products: Hessian products in all of them.
    converged: whether gradient_norm is at or below tol; where it isn't, the solver ran out of steps or met a NaN.
    """

    gradient_norm: Float[AnyArray, "*batch"]
    steps: Int[AnyArray, "*batch"]
    products: Int[AnyArray, "*batch"]
    converged: Bool[AnyArray, "*batch"]


def _few(examples: int, dim: int) -> bool:
    """Returns whether a problem has fewer examples than dimensions."""
    return examples < dim


def fit_head(
    problem: HeadProblem,
    theta: Float[AnyArray, "C p"],
    tol: FloatLike = 1e-6,
    *,
    solver: Solver = NEWTON,
    max_steps: IntLike | None = None,
    ahead: Float[AnyArray, "C p"] | None = None,
) -> tuple[Float[Array, "C p"], HeadInfo]:
    """Fits one head, starting from theta.

    Args:
      problem: the data of the head.
      theta: rows [W b] to start from; zeros will do.
      tol: the gradient norm to stop at, over W and b and for the mean loss.
      solver: NEWTON suits a large problem, BFGS a small one.
      max_steps: the number of steps to stop after in any case; by default the solver's own.
      ahead: a step from theta that is tried first, unless theta will do: on a path of ridges, the change between the last two solutions
        halves the number of Hessian products.

    Returns:
      Rows with biases centred over classes, and a `HeadInfo`, whose `converged` says whether tol was reached (`warn_unless_converged`
      reports it). The mean of W over classes may be as large as tol / ℓ where that of theta was not 0: only the ridge depends on it.
    """
    if solver.size and len(problem.x) % solver.size:
        raise ValueError(f"problem: has {len(problem.x)} examples, which is no multiple of the solver's {solver.size} (see pad_examples)")
    limit = solver.max_steps if max_steps is None else max_steps
    if solver.few is not None and _few(*problem.x.shape):
        if ahead is not None:
            raise ValueError("ahead: is not used with fewer examples than dimensions by BFGS; leave it out, or solve by NEWTON")
        theta, norm, steps = solver.few(problem, theta, tol, limit)
        return theta, HeadInfo(norm, steps, jnp.zeros_like(steps), norm <= tol)
    frame = solver.frame(problem)
    v = into_frame(theta, frame)
    point = point_at(problem, frame, v, size=solver.size)
    if ahead is not None:
        wanted = (jnp.linalg.norm(point.gradient) > tol) & (ahead != 0).any()
        tried = partial(line_search, problem, frame, point, into_frame(ahead, frame), LINE_LIMIT, size=solver.size)
        point = lax.cond(wanted, tried, lambda: point)
    point, steps, products = solver.descend(problem, frame, point, tol, limit)
    norm = jnp.linalg.norm(point.gradient)
    return out_of_frame(point.v, frame), HeadInfo(norm, steps, products, norm <= tol)


# callers that solve one problem at a time share its compiled programs
fit_one = jax.jit(fit_head, static_argnames="solver", compiler_options=SOLVER_OPTIONS)


def fit_batch(
    problems: HeadProblem,
    theta: Float[AnyArray, "C p"],
    tol: FloatLike = 1e-6,
    *,
    shared: tuple[str, ...] = (),
    frame: Callable[[HeadProblem], Frame] = featureframe,
    max_steps: IntLike | None = None,
) -> tuple[Float[Array, "B C p"], HeadInfo]:
    """Fits B small heads at once by BFGS, each as if it were alone.

    Args:
      problems: a `HeadProblem` whose fields begin with an axis of length B.
      theta: rows that all heads start from.
      tol: as for `fit_head`.
      shared: names of the fields of `problems` that are the same for all heads and don't have the axis of length B.
      frame: problem → its Frame.
      max_steps: as for `fit_head`, for each head.

    Returns:
      Rows of every head, and a `HeadInfo` whose fields have shape [B].
    """
    axes = HeadProblem(*(None if name in shared else 0 for name in HeadProblem._fields))  # type: ignore[arg-type]  # axes, not arrays
    solver = Solver(frame, partial(bfgs, axis="batch"), BFGS.max_steps, few=partial(fit_in_samples, axis="batch"))

    def fit(problem):
        return fit_head(problem, theta, tol, solver=solver, max_steps=max_steps)

    return jax.vmap(fit, in_axes=(axes,), axis_name="batch")(problems)


def warn_unless_converged(info: HeadInfo, what: str) -> None:
    """Warns of solves that did not converge, by scikit-learn's `ConvergenceWarning`.

    `fit_head` and `fit_batch` can't warn themselves, as they run under jit; whoever calls them outside of it can by this function.

    Args:
      info: of one solve or of a batch.
      what: what was solved; the message begins with it.
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


def solve_bytes(examples: int, dim: int, classes: int, size: int | None = None) -> int:
    """Estimates the bytes of working memory of one large solve: its frame, arrays of the size of the logits, and per-class blocks; size:
    as in Solver."""
    side = min(examples, dim)
    width, frame = side + 1, examples * side + 3 * side * side
    heavy = heavy_examples(examples, width, classes)
    blocks = classes * width * (3 * heavy if heavy < width else 3 * width + heavy)
    return 4 * (4 * (size or examples) * classes + blocks + frame)


def head_flops(
    examples: int,
    dim: int,
    classes: int,
    steps: IntLike | Int[AnyArray, "*batch"],
    products: IntLike | Int[AnyArray, "*batch"],
    solver: Solver = NEWTON,
) -> np.floating | Float[np.ndarray, "*batch"]:
    """Returns the floating-point operations in the matrix products of a solve.

    These are the ones into its frame, if that has a basis, and out of it, and a product with z [n, q] and one with its transpose for each
    step, for its line search and its gradient, and for each Hessian product. In the space of the examples, a step takes one with K [n, n].

    Args:
      examples: their number n.
      dim: their dimensions d.
      classes: their number C.
      steps: of the solver, as in `HeadInfo`.
      products: Hessian products, as in `HeadInfo`.
      solver: the one that the solve was made by.
    """
    side, taken = min(examples, dim), np.asarray(steps) + np.asarray(products) + 1
    if solver.few is not None and _few(examples, dim):
        return 2.0 * examples * dim * (examples + classes) + 2.0 * examples * examples * classes * taken
    whole = 4 * examples * dim * dim if solver.frame is eigenframe else 0
    basis = 5 * examples * examples * dim if examples < dim else whole  # Gram matrix, basis, features in it
    moved = 4 * classes * side * dim if basis else 0
    return basis + moved + 4.0 * examples * (side + 1) * classes * taken
