"""A head problem in the coordinates that solvers work in.

b is free, so features are centred without changing the problem. With fewer examples than dimensions they span a space of only n
dimensions, and all the work happens there. `eigenframe` rotates them into the eigenbasis of their covariance, which a
diagonal preconditioner needs; `spanframe` does no more than it has to. Solvers go from one `Point` to the next by `line_search`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

HIGHEST = lax.Precision.HIGHEST  # the optimum must not depend on bf16 or TF32
SETTLED = 0.3  # share of the slope along a step at which it is long enough


Array = jax.Array | np.ndarray


class HeadProblem(NamedTuple):
    """One weighted, offset softmax regression.

    x: [n, d] features. y: [n] int32 labels from 0 to C − 1. weight: [n] example weights ω ≥ 0, not all 0; a padded example has 0.
    offset: [C] or [n, C] added to the logits in training. l2: the strength ℓ > 0 of the ridge on W, for the mean loss.
    """

    x: Array
    y: Array
    weight: Array
    offset: Array
    l2: Array | np.floating


class Frame(NamedTuple):
    """The problem in a basis: z = [(x - mean) basis, 1] [n, r+1], basis [d, r] with orthonormal columns, or shorter ones where x
    hardly varies (None: x's own), weights summing to 1, the ridge of each coordinate, and [r] roughly how features vary along each
    (None: not known)."""

    z: jax.Array
    mean: jax.Array
    basis: jax.Array | None
    weight: jax.Array
    ridge: jax.Array
    variance: jax.Array | None = None


class Point(NamedTuple):
    """An iterate: coefficients v [C, r+1], logits [n, C] before the offset, probabilities [n, C] after it, the gradient [C, r+1]."""

    v: jax.Array
    logits: jax.Array
    probs: jax.Array
    gradient: jax.Array


def mm(a: Array, b: Array) -> jax.Array:
    """a @ b at full float32 precision on every device, of matrices. A product with a vector is written as a sum: in JAX 0.11, XLA cannot
    compile all of them for a GPU where they are fused with their neighbours."""
    return jnp.matmul(a, b, precision=HIGHEST)


def row_products(a: jax.Array, b: jax.Array) -> jax.Array:
    """[n] the dot product of each row of a with that of b, both [n, C]."""

    def by_einsum(a, b):  # twelve times as fast as a sum for one large head on a CPU
        return jnp.einsum("nc,nc->n", a, b, precision=HIGHEST)

    return lax.platform_dependent(a, b, cpu=by_einsum, default=lambda a, b: (a * b).sum(1))


def _eigenbasis(x, weight):
    """Orthonormal [d, r] eigenvectors of the weighted covariance of centred x [n, d], r = min(n, d)."""
    n, d = x.shape
    scaled = x * jnp.sqrt(weight)[:, None]
    if n >= d:
        return jnp.linalg.eigh(mm(scaled.T, scaled))[1]
    values, vectors = jnp.linalg.eigh(mm(scaled, scaled.T))
    keep = values > values[-1] * 1e-6  # directions the examples do not span get no column
    basis = jnp.where(keep, mm(scaled.T, vectors) / jnp.sqrt(jnp.where(keep, values, 1.0)), 0.0)
    for _ in range(2):  # Newton–Schulz: float32 leaves columns of small eigenvalues up to 6% from orthonormal
        basis = 1.5 * basis - 0.5 * mm(basis, mm(basis.T, basis))
    return basis


def solve_by_cholesky(a: jax.Array, b: jax.Array) -> jax.Array:
    """L⁻¹ b, where a = L Lᵀ [n, n], b [n, m].

    Under vmap a CPU solves one after the other: a batch there waits for threads of XLA's pool while it holds one of them, so that as
    many programs at once as the pool has threads (of several devices, or of several threads of Python) would wait for ever.
    """

    def solve(a, b):
        return lax.linalg.triangular_solve(jnp.linalg.cholesky(a), b, left_side=True, lower=True)

    return lax.platform_dependent(a, b, cpu=jax.custom_batching.sequential_vmap(solve), default=solve)


def _spanning_basis(x, weight):
    """[d, n] basis of the span of centred x [n, d], n < d, by the Cholesky factor of their Gram matrix. Directions in which x has
    hardly more than 1e-6 of its mean square get columns shorter than 1, which is a stronger ridge where there is nothing to tell."""
    gram = mm(x, x.T)
    level = jnp.trace(gram) / len(x)
    unseen = jnp.outer(weight, weight) / (weight**2).sum()  # x is centred: xᵀ weight = 0
    return solve_by_cholesky(gram + level * (unseen + 1e-6 * jnp.eye(len(x), dtype=x.dtype)), x).T


def _frame(problem, find_basis):
    weight = problem.weight / problem.weight.sum()
    mean = (weight[:, None] * problem.x).sum(0)
    centred = problem.x - mean
    basis = find_basis(centred, weight)
    z = centred if basis is None else mm(centred, basis)
    ridge = jnp.full(z.shape[1] + 1, problem.l2, centred.dtype).at[-1].set(0.0)
    return Frame(jnp.concatenate([z, jnp.ones((len(z), 1), z.dtype)], 1), mean, basis, weight, ridge)


def eigenframe(problem: HeadProblem) -> Frame:
    """The eigenbasis of the features' covariance, r = min(n, d)."""
    return _frame(problem, _eigenbasis)


def spanframe(problem: HeadProblem, variance: jax.Array | None = None) -> Frame:
    """The features as they are, of which `variance` [d] may be known; with fewer examples than dimensions, a basis of what they span."""
    n, d = problem.x.shape
    if n < d:
        return _frame(problem, _spanning_basis)
    return _frame(problem, lambda x, weight: None)._replace(variance=variance)


def into_frame(theta: jax.Array, frame: Frame) -> jax.Array:
    """Rows [C, d+1] as coefficients [C, r+1]."""
    w, bias = theta[:, :-1], theta[:, -1] + (theta[:, :-1] * frame.mean).sum(1)
    return jnp.concatenate([w if frame.basis is None else mm(w, frame.basis), bias[:, None]], 1)


def out_of_frame(v: jax.Array, frame: Frame) -> jax.Array:
    """Coefficients [C, r+1] as rows [C, d+1], biases centred."""
    w = v[:, :-1] if frame.basis is None else mm(v[:, :-1], frame.basis.T)
    bias = v[:, -1] - (w * frame.mean).sum(1)
    return jnp.concatenate([w, (bias - bias.mean())[:, None]], 1)


def any_in_batch(flag: jax.Array, axis: str | None) -> jax.Array:
    """Whether the flag is set in any problem of the vmapped axis (None: this one's own). A loop that goes on for all of a batch
    needn't copy the state of those that are done in every step; they have to stand still on their own."""
    return flag if axis is None else lax.pmax(flag.astype(jnp.int32), axis) > 0


def point_at(problem: HeadProblem, frame: Frame, v: jax.Array, logits: jax.Array) -> Point:
    """The Point of coefficients v and their logits."""
    return _with_gradient(problem, frame, v, logits, jax.nn.softmax(logits + problem.offset, axis=1))


def _own(problem, classes):
    """[n, C] whether a class is the example's own; a comparison is fused with what uses it, an index isn't."""
    return problem.y[:, None] == jnp.arange(classes, dtype=problem.y.dtype)


def _with_gradient(problem, frame, v, logits, probs):
    residual = jnp.where(_own(problem, probs.shape[1]), probs - 1.0, probs)
    gradient = mm((residual * frame.weight[:, None]).T, frame.z) + v * frame.ridge
    return Point(v, logits, probs, gradient)


def line_search(problem: HeadProblem, frame: Frame, point: Point, s: jax.Array, limit: int, axis: str | None = None) -> Point:
    """The Point near the minimum along s, after at most `limit` looks: where the slope is down to the share SETTLED of its start.

    It goes by the slope along s alone, which float32 still resolves where the objective has gone flat, and by logits alone: only
    the one product with s and that of the new gradient are of the size of the data.
    """
    u = mm(frame.z, s.T)
    linear, quadratic = (s * frame.ridge * point.v).sum(), (s * frame.ridge * s).sum()
    own = (jnp.where(_own(problem, u.shape[1]), u, 0.0).sum(1) * frame.weight).sum()

    def slope(t):
        probs = jax.nn.softmax(point.logits + t * u + problem.offset, axis=1)
        return (row_products(probs, u) * frame.weight).sum() - own + linear + t * quadratic, probs

    start = (point.gradient * s).sum()
    zero, one = jnp.zeros_like(start), jnp.ones_like(start)

    def unsettled(value):
        return jnp.abs(value) > SETTLED * jnp.abs(start)

    def go_on(state):
        *_, value, _, k = state
        return any_in_batch(unsettled(value), axis) & (k < limit)

    def look(state):
        (low, below), (high, above), t, value, _, k = state
        ahead = value < 0  # the minimum lies further on
        further = t + (t - low) * jnp.clip(value / (below - value), 0.0, 3.0)
        low, below = jnp.where(ahead, t, low), jnp.where(ahead, value, below)
        high, above = jnp.where(ahead, high, t), jnp.where(ahead, above, value)
        between = low + (high - low) * jnp.clip(below / (below - above), 0.1, 0.9)
        t = jnp.where(unsettled(value), jnp.where(jnp.isinf(high), further, between), t)
        return (low, below), (high, above), t, *slope(t), k + 1

    state = (zero, start), (jnp.inf * one, one), one, *slope(one), 1
    _, _, t, _, probs, _ = lax.while_loop(go_on, look, state)
    return _with_gradient(problem, frame, point.v + t * s, point.logits + t * u, probs)
