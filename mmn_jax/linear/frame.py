"""A head problem in the coordinates that solvers work in.

b is free, so features are centred without changing the problem. With fewer examples than dimensions they span a space of only n
dimensions, and all the work happens there. `eigenframe` rotates them into the eigenbasis of their covariance, which a
diagonal preconditioner needs; `spanframe` does no more than it has to. Solvers go from one `Point` to the next by `line_search`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmn_jax.linear.algebra import mm, solve_by_cholesky
from mmn_jax.linear.problem import HeadProblem


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
