"""The line search that takes a solver from one iterate to the next.

It approximates the t at which the derivative of the objective along the step s vanishes,

    φ'(t) = Σ_j ω_j (p_j(t) − e_{y_j})ᵀ u_j + sᵀ Λ (v + t s) = 0,    u = z sᵀ,  p(t) = softmax(logits + t u + a),

where Λ is the ridge of each coordinate and weights ω sum to 1: by secants until φ' has changed its sign, then by regula falsi between
the two points around 0.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from mmn_jax.linear.algebra import mm, row_products
from mmn_jax.linear.frame import Frame
from mmn_jax.linear.passes import Block, Point, total, whole, with_gradient
from mmn_jax.linear.problem import HeadProblem

SETTLED = 0.3  # a step's length is accepted where the slope along it is down to this share of its initial value


def any_in_batch(flag: Bool[Array, ""], axis: str | None) -> Bool[Array, ""]:
    """Returns whether the flag is set in any problem of the vmapped axis, or the flag itself without one.

    A loop whose condition is the same for a whole batch doesn't copy the state of finished problems at every step; its body has to
    leave them unchanged.
    """
    return flag if axis is None else lax.pmax(flag.astype(jnp.int32), axis) > 0


def own_slope(block: Block, u: Float[Array, "b C"]) -> Float[Array, ""]:
    """Returns Σ_j ω_j u_{j, y_j}."""
    return (jnp.where(block.own(), u, 0.0).sum(1) * block.weight).sum()


def expected_slope(block: Block, u: Float[Array, "b C"], t: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, "b C"]]:
    """Returns Σ_j ω_j p_j(t)ᵀ u_j, and p(t)."""
    probs = jax.nn.softmax(block.logits + t * u + block.offset, axis=1)
    return (row_products(probs, u) * block.weight).sum(), probs


def settle(
    slope: Callable[[Float[Array, ""]], tuple[Float[Array, ""], Float[Array, "m C"]]],
    start: Float[Array, ""],
    limit: int,
    axis: str | None = None,
) -> tuple[Float[Array, ""], Float[Array, "m C"]]:
    """Returns a t at which the slope is down to SETTLED times its initial value, and the probabilities there.

    Args:
      slope: t → φ'(t), and the probabilities there.
      start: φ'(0), below 0.
      limit: the number of evaluations of the slope to stop after in any case.
      axis: the name of the vmapped axis, where there is one.
    """
    zero, one = jnp.zeros_like(start), jnp.ones_like(start)

    def unsettled(value):
        return jnp.abs(value) > SETTLED * jnp.abs(start)

    def go_on(state):
        *_, value, _, k = state
        return any_in_batch(unsettled(value), axis) & (k < limit)

    def evaluate(state):
        (low, below), (high, above), t, value, _, k = state
        ahead = value < 0  # the minimum lies beyond t
        further = t + (t - low) * jnp.clip(value / (below - value), 0.0, 3.0)
        low, below = jnp.where(ahead, t, low), jnp.where(ahead, value, below)
        high, above = jnp.where(ahead, high, t), jnp.where(ahead, above, value)
        between = low + (high - low) * jnp.clip(below / (below - above), 0.1, 0.9)
        t = jnp.where(unsettled(value), jnp.where(jnp.isinf(high), further, between), t)
        return (low, below), (high, above), t, *slope(t), k + 1

    state = (zero, start), (jnp.inf * one, one), one, *slope(one), 1
    _, _, t, _, probs, _ = lax.while_loop(go_on, evaluate, state)
    return t, probs


def line_search(
    problem: HeadProblem,
    frame: Frame,
    point: Point,
    s: Float[Array, "C q"],
    limit: int,
    axis: str | None = None,
    size: int | None = None,
) -> Point:
    """Returns a Point near the minimum along s, where the slope is down to SETTLED times its initial value.

    It needs only the slope along s, which float32 still resolves where the objective has become flat, and only logits: no products of the
    size of the data but the one with s and the one for the new gradient. Where logits aren't kept, every evaluation takes two.

    Args:
      problem: the problem.
      frame: its Frame.
      point: the Point to start from.
      s: the step, a direction of descent.
      limit: the number of evaluations of the slope to stop after in any case.
      axis: the name of the vmapped axis, where there is one.
      size: of a block, where logits aren't kept (`passes.py`).
    """
    linear, quadratic = (s * frame.ridge * point.v).sum(), (s * frame.ridge * s).sum()
    if size is None:
        every, along = whole(problem, frame, point), mm(frame.z, s.T)
        own = own_slope(every, along)

        def slope(t):
            expected, probs = expected_slope(every, along, t)
            return expected - own + linear + t * quadratic, probs
    else:

        def slope(t):
            def term(block):
                u = mm(block.z, s.T)
                return expected_slope(block, u, t)[0] - own_slope(block, u)

            return total(term, problem, frame, point, size) + linear + t * quadratic, point.probs

    t, probs = settle(slope, (point.gradient * s).sum(), limit, axis)
    logits = point.logits if size else point.logits + t * along
    return with_gradient(problem, frame, Point(point.v + t * s, logits, probs, s), size)
