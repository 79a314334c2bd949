"""Iterates of a solver, and sums over the examples of a problem at one.

    g(v) = Σ_j ω_j (p_j − e_{y_j}) z_jᵀ + v Λ,    p_j = softmax(z_j vᵀ + a_j),    Λ the ridge of each coordinate

A Point keeps the logits and probabilities of all examples. Where these don't fit into memory, it keeps none: every sum computes them
anew, for one block of examples after the other. Functions tell the two apart by `size`, the number of examples in a block, or None.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from mmn_jax.linear.algebra import AnyArray, mm
from mmn_jax.linear.frame import Frame
from mmn_jax.linear.problem import HeadProblem

SumT = TypeVar("SumT")  # an array, or a tree of arrays


class Point(NamedTuple):
    """An iterate: coefficients v in a Frame, logits before the offset is added, probabilities after it, and the gradient.

    m is the number of examples, or 0 where logits and probabilities aren't kept.
    """

    v: Float[Array, "C q"]
    logits: Float[Array, "m C"]
    probs: Float[Array, "m C"]
    gradient: Float[Array, "C q"]


class Block(NamedTuple):
    """Examples of a problem in a Frame, with their logits and probabilities at a Point."""

    z: Float[Array, "b q"]
    y: Int[AnyArray, " b"]
    weight: Float[AnyArray, " b"]
    offset: Float[AnyArray, " C"] | Float[AnyArray, "b C"]
    logits: Float[Array, "b C"]
    probs: Float[Array, "b C"]

    def own(self) -> Bool[Array, "b C"]:
        """Returns whether each class is the example's own. XLA fuses a comparison with what uses it, unlike an index."""
        classes = self.probs.shape[1]
        return self.y[:, None] == jnp.arange(classes, dtype=self.y.dtype)

    def residual(self) -> Float[Array, "b C"]:
        """Returns ω (p − e_y), the derivative of the mean loss with respect to the logits."""
        return jnp.where(self.own(), self.probs - 1.0, self.probs) * self.weight[:, None]


def whole(problem: HeadProblem, frame: Frame, point: Point) -> Block:
    """Returns all examples of a problem, at a Point that keeps their logits."""
    return Block(frame.z, problem.y, frame.weight, problem.offset, point.logits, point.probs)


def block_at(problem: HeadProblem, frame: Frame, v: Float[AnyArray, "C q"], size: int, number: Int[Array, ""] | int) -> Block:
    """Returns one block of examples, its logits computed from the coefficients v."""

    def part(array):
        return lax.dynamic_slice_in_dim(jnp.asarray(array), number * size, size)

    z = part(frame.z)
    offset = part(problem.offset) if problem.offset.ndim == 2 else problem.offset
    logits = mm(z, v.T)
    return Block(z, part(problem.y), part(frame.weight), offset, logits, jax.nn.softmax(logits + offset, axis=1))


def total(term: Callable[[Block], SumT], problem: HeadProblem, frame: Frame, point: Point, size: int | None) -> SumT:
    """Returns the sum over all examples of what `term` sums over those of a block."""
    if size is None:
        return term(whole(problem, frame, point))

    def of_block(number):
        return term(block_at(problem, frame, point.v, size, number))

    zeros = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), jax.eval_shape(of_block, 0))
    return lax.fori_loop(0, len(frame.z) // size, lambda i, so_far: jax.tree.map(jnp.add, so_far, of_block(i)), zeros)


def _slope(block):
    return mm(block.residual().T, block.z)


def with_gradient(problem: HeadProblem, frame: Frame, point: Point, size: int | None) -> Point:
    """Returns the Point with the gradient at its coefficients."""
    return point._replace(gradient=total(_slope, problem, frame, point, size) + point.v * frame.ridge)


def point_at(
    problem: HeadProblem, frame: Frame, v: Float[AnyArray, "C q"], logits: Float[AnyArray, "n C"] | None = None, size: int | None = None
) -> Point:
    """Returns the Point at coefficients v.

    Args:
      problem: the problem.
      frame: its Frame.
      v: the coefficients.
      logits: of v, where they are known.
      size: of a block, which has to divide the number of examples; None to keep logits and probabilities.
    """
    v = jnp.asarray(v)
    if size is not None:
        none = jnp.zeros((0, len(v)), frame.z.dtype)
        return with_gradient(problem, frame, Point(v, none, none, v), size)
    logits = mm(frame.z, v.T) if logits is None else jnp.asarray(logits)
    return with_gradient(problem, frame, Point(v, logits, jax.nn.softmax(logits + problem.offset, axis=1), v), None)
