"""A head problem in the coordinates that solvers work in.

b is free, so features are centred without changing the problem; they are then rotated into the eigenbasis of their own
covariance, which has min(n, d) coordinates that matter: with fewer examples than dimensions all the work happens in sample
space. Solvers go from one `Point` to the next by `line_search`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

SETTLED = 0.3  # share of the slope along a step at which it is long enough
HIGHEST = lax.Precision.HIGHEST  # the optimum must not depend on bf16 or TF32


class HeadProblem(NamedTuple):
    """One weighted, offset softmax regression.

    x: [n, d] features. y: [n] int labels. weight: [n] example weights ω ≥ 0, a
    padded example has 0. offset: [C] or [n, C] added to the logits in training.
    l2: the strength ℓ of the ridge on W, for the mean loss.
    """

    x: jax.Array
    y: jax.Array
    weight: jax.Array
    offset: jax.Array
    l2: jax.Array


class Frame(NamedTuple):
    """The problem in the eigenbasis: z = [(x - mean) basis, 1] [n, r+1], weights summing to 1. variance: [r+1] of z's
    columns, 1 for the last."""

    z: jax.Array
    mean: jax.Array
    basis: jax.Array
    weight: jax.Array
    ridge: jax.Array
    variance: jax.Array


class Point(NamedTuple):
    """An iterate: coefficients v [C, r+1], logits [n, C], probabilities and the gradient."""

    v: jax.Array
    logits: jax.Array
    probs: jax.Array
    gradient: jax.Array


def mm(a, b):
    return jnp.matmul(a, b, precision=HIGHEST)


def _eigenbasis(x, weight):
    """Orthonormal eigenvectors [d, r] of the weighted covariance of centred x [n, d], r = min(n, d), and their eigenvalues [r]."""
    n, d = x.shape
    scaled = x * jnp.sqrt(weight)[:, None]
    if n >= d:
        values, vectors = jnp.linalg.eigh(mm(scaled.T, scaled))
        return vectors, values
    values, vectors = jnp.linalg.eigh(mm(scaled, scaled.T))
    keep = values > values[-1] * 1e-6  # directions the examples do not span get no column
    basis = jnp.where(keep, mm(scaled.T, vectors) / jnp.sqrt(jnp.where(keep, values, 1.0)), 0.0)
    for _ in range(2):  # Newton–Schulz: float32 leaves columns of small eigenvalues up to 6% from orthonormal
        basis = 1.5 * basis - 0.5 * mm(basis, mm(basis.T, basis))
    return basis, jnp.where(keep, values, 0.0)


def make_frame(problem: HeadProblem) -> Frame:
    """The eigenbasis of one problem."""
    weight = problem.weight / problem.weight.sum()
    mean = mm(weight, problem.x)
    centred = problem.x - mean
    basis, variance = _eigenbasis(centred, weight)
    ones = jnp.ones((len(centred), 1), centred.dtype)
    ridge = jnp.full(basis.shape[1] + 1, problem.l2, centred.dtype).at[-1].set(0.0)
    variance = jnp.append(jnp.maximum(variance, 0.0), 1.0).astype(centred.dtype)
    return Frame(jnp.concatenate([mm(centred, basis), ones], 1), mean, basis, weight, ridge, variance)


def into_frame(theta: jax.Array, frame: Frame) -> jax.Array:
    """Rows [C, d+1] as coefficients [C, r+1]."""
    return jnp.concatenate([mm(theta[:, :-1], frame.basis), (theta[:, -1] + mm(theta[:, :-1], frame.mean))[:, None]], 1)


def out_of_frame(v: jax.Array, frame: Frame) -> jax.Array:
    """Coefficients [C, r+1] as rows [C, d+1], biases centred."""
    w = mm(v[:, :-1], frame.basis.T)
    bias = v[:, -1] - mm(w, frame.mean)
    return jnp.concatenate([w, (bias - bias.mean())[:, None]], 1)


def point_at(problem: HeadProblem, frame: Frame, v: jax.Array, logits: jax.Array) -> Point:
    """The Point of coefficients v and their logits."""
    return _with_gradient(problem, frame, v, logits, jax.nn.softmax(logits + problem.offset, axis=1))


def _with_gradient(problem, frame, v, logits, probs):
    residual = probs.at[jnp.arange(len(probs)), problem.y].add(-1.0)
    gradient = mm((residual * frame.weight[:, None]).T, frame.z) + v * frame.ridge
    return Point(v, logits, probs, gradient)


def line_search(problem: HeadProblem, frame: Frame, point: Point, s: jax.Array, limit: int) -> Point:
    """The Point near the minimum along s, after at most `limit` looks: where the slope is down to a third of its start.

    It goes by the slope along s alone, which float32 still resolves where the objective has gone flat, and by logits alone: only
    the one product with s and that of the new gradient are of the size of the data.
    """
    u = mm(frame.z, s.T)
    linear, quadratic = (s * frame.ridge * point.v).sum(), (s * frame.ridge * s).sum()
    own = (u[jnp.arange(len(u)), problem.y] * frame.weight).sum()

    def slope(t):
        probs = jax.nn.softmax(point.logits + t * u + problem.offset, axis=1)
        return ((probs * u).sum(1) * frame.weight).sum() - own + linear + t * quadratic, probs

    start = (point.gradient * s).sum()
    zero, one = jnp.zeros_like(start), jnp.ones_like(start)

    def unsettled(state):
        *_, value, _, k = state
        return (jnp.abs(value) > SETTLED * jnp.abs(start)) & (k < limit)

    def look(state):
        (low, below), (high, above), t, value, _, k = state
        ahead = value < 0  # the minimum lies further on
        further = t + (t - low) * jnp.clip(value / (below - value), 0.0, 3.0)
        lower, upper = (
            (jnp.where(ahead, t, low), jnp.where(ahead, value, below)),
            (jnp.where(ahead, high, t), jnp.where(ahead, above, value)),
        )
        between = lower[0] + (upper[0] - lower[0]) * jnp.clip(lower[1] / (lower[1] - upper[1]), 0.1, 0.9)
        t = jnp.where(jnp.isinf(upper[0]), further, between)
        return lower, upper, t, *slope(t), k + 1

    state = (zero, start), (jnp.inf * one, one), one, *slope(one), 1
    _, _, t, _, probs, _ = lax.while_loop(unsettled, look, state)
    return _with_gradient(problem, frame, point.v + t * s, point.logits + t * u, probs)
