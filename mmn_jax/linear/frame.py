"""A head problem in the coordinates that a solver works in.

The bias is not penalised, so features can be centred without changing the problem. `eigenframe` rotates them into the eigenbasis of their
covariance, as a diagonal preconditioner requires; with fewer examples than dimensions, only n dimensions are left there. `featureframe`
leaves them as they are. Solvers then go from one `Point` to the next by `line_search`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmn_jax.linear.algebra import AnyArray, mm, with_column
from mmn_jax.linear.problem import HeadProblem


class Frame(NamedTuple):
    """The data of a problem in a basis.

    z: [(x − mean) basis, 1]. basis: orthonormal columns, or shorter ones in directions in which x hardly varies; None where features stay
    as they are. weight: example weights, which sum to 1. ridge: the strength of the ridge on each coordinate, 0 for the bias.
    variance: approximately that of the features along each coordinate; None where it isn't known.
    """

    z: Float[Array, "n q"]
    mean: Float[AnyArray, " d"]
    basis: Float[Array, "d r"] | None
    weight: Float[AnyArray, " n"]
    ridge: Float[Array, " q"]
    variance: Float[AnyArray, " r"] | None = None


def _eigenbasis(x: Float[AnyArray, "n d"], weight: Float[AnyArray, " n"]) -> Float[Array, "d r"]:
    """Returns orthonormal eigenvectors of the weighted covariance of centred x, r = min(n, d)."""
    n, d = x.shape
    scaled = x * jnp.sqrt(weight)[:, None]
    if n >= d:
        return jnp.linalg.eigh(mm(scaled.T, scaled))[1]
    values, vectors = jnp.linalg.eigh(mm(scaled, scaled.T))
    keep = values > values[-1] * 1e-6  # directions that the examples don't span get a column of 0
    basis = jnp.where(keep, mm(scaled.T, vectors) / jnp.sqrt(jnp.where(keep, values, 1.0)), 0.0)
    for _ in range(2):  # Newton–Schulz: float32 leaves columns of small eigenvalues up to 6% from orthonormal
        basis = 1.5 * basis - 0.5 * mm(basis, mm(basis.T, basis))
    return basis


def _frame(problem: HeadProblem, find_basis: Callable[..., Array | None]) -> Frame:
    """Returns the Frame whose basis is find_basis(centred features [n, d], weights [n])."""
    weight = problem.weight / problem.weight.sum()
    mean = (weight[:, None] * problem.x).sum(0)
    centred = jnp.asarray(problem.x) - mean
    basis = find_basis(centred, weight)
    z = centred if basis is None else mm(centred, basis)
    ridge = jnp.full(z.shape[1] + 1, problem.l2, centred.dtype).at[-1].set(0.0)
    return Frame(with_column(z, 1.0), mean, basis, weight, ridge)


def eigenframe(problem: HeadProblem) -> Frame:
    """Returns the problem in the eigenbasis of its features' covariance, r = min(n, d)."""
    return _frame(problem, _eigenbasis)


def featureframe(problem: HeadProblem, variance: Float[AnyArray, " d"] | None = None) -> Frame:
    """Returns the problem with its features as they are; variance: of the features along each dimension, where it is known."""
    return _frame(problem, lambda x, weight: None)._replace(variance=variance)


def into_frame(theta: Float[AnyArray, "C p"], frame: Frame) -> Float[Array, "C q"]:
    """Returns the coefficients of rows in a Frame."""
    w, bias = jnp.asarray(theta[:, :-1]), theta[:, -1] + (theta[:, :-1] * frame.mean).sum(1)
    return with_column(w if frame.basis is None else mm(w, frame.basis), bias)


def out_of_frame(v: Float[AnyArray, "C q"], frame: Frame) -> Float[Array, "C p"]:
    """Returns the rows of coefficients in a Frame, with biases centred over classes."""
    w = jnp.asarray(v[:, :-1]) if frame.basis is None else mm(v[:, :-1], frame.basis.T)
    bias = v[:, -1] - (w * frame.mean).sum(1)
    return with_column(w, bias - bias.mean())
