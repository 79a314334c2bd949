"""TODO"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mmn_jax.linear.algebra import mm, row_products
from mmn_jax.linear.frame import Frame
from mmn_jax.linear.problem import HeadProblem

SETTLED = 0.3  # share of the slope along a step at which it is long enough


class Point(NamedTuple):
    """An iterate: coefficients v [C, r+1], logits [n, C] before the offset, probabilities [n, C] after it, the gradient [C, r+1]."""

    v: jax.Array
    logits: jax.Array
    probs: jax.Array
    gradient: jax.Array


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
