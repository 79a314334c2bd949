"""The Gaussian model of classes: how class means scatter, estimated mostly from the classes with many examples.

    x | c ~ N(m_c, A),    m_c ~ N(μ, B)

It gives in closed form how a row changes with the number of examples. The mean m̄ of n examples is shrunk to

    v = B (B + A/n)⁻¹ (m̄ − μ),    and its row is  w = A⁻¹ v,   b = −½ vᵀA⁻¹v − wᵀμ,

the Bayesian row. It also gives the distribution of rows before any example is seen, w ~ N(0, A⁻¹BA⁻¹), the row prior. Both follow from
a linear mixed model of the features (Henderson 1975; Ioffe 2006, probabilistic LDA).
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
from jaxtyping import Float, Int

from mmn_jax.linear.algebra import AnyArray, ArrayT, with_column
from mmn_jax.machine import one_thread
from mmn_jax.types import Normalised

TRUST = 5.0  # number of examples at which a class's mean has half the weight in μ and B of one that is known exactly

CHUNK = 4096  # number of examples whose residuals are in memory at once


class ClassModel(NamedTuple):
    """A and B, diagonalised simultaneously: basisᵀ A basis = I, basisᵀ B basis = diag(spread).

    basis: x basis are whitened features; r is d, or the dimension of a subspace that contains all features. inverse: w inverseᵀ are the
    weights of whitened features. spread: between-class variances in units of the within-class ones, largest first. centre: μ.
    """

    basis: Float[AnyArray, "d r"]
    inverse: Float[AnyArray, "r d"]
    spread: Float[AnyArray, " r"]
    centre: Float[AnyArray, " d"]


class Shrinkage(NamedTuple):
    """How far A (within) and B (between) are shrunk towards multiples of the identity of the same trace, from 0 to 1."""

    within: float
    between: float


ADDED = Shrinkage(0.6, 0.5)  # of the model that the row of an added class is computed from


def class_means(x: Float[np.ndarray, "n d"], y: Int[np.ndarray, " n"], classes: int) -> Float[np.ndarray, "C d"]:
    """Returns the mean of each class in float64; every class needs an example."""
    sums = np.zeros((classes, x.shape[1]))
    for first in range(0, len(y), CHUNK):
        part = y[first : first + CHUNK]
        of_class = scipy.sparse.csr_array((np.ones(len(part)), (part, np.arange(len(part)))), (classes, len(part)))
        sums += of_class @ x[first : first + CHUNK]
    return sums / np.bincount(y, minlength=classes)[:, None]


def _shrunk(covariance: Float[np.ndarray, "r r"], share: float, dim: int) -> Float[np.ndarray, "r r"]:
    """Shrinks a covariance towards the multiple of the identity that has the same trace in all `dim` dimensions."""
    return (1 - share) * covariance + share * np.trace(covariance) / dim * np.eye(len(covariance))


def _positive(covariance):
    """Returns the nearest positive semi-definite matrix."""
    with one_thread(len(covariance)):
        values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


class ClassStatistics(NamedTuple):
    """What a ClassModel is computed from.

    counts: number of examples of each class. means: of the classes. within: pooled covariance around the means; in the coordinates of
    the `span` of the features where that is given (r = d otherwise).
    """

    counts: Int[np.ndarray, " C"]
    means: Float[np.ndarray, "C d"]
    within: Float[np.ndarray, "r r"]
    span: Float[np.ndarray, "d r"] | None = None


def class_statistics(train: Normalised, span: Float[np.ndarray, "d r"] | None = None) -> ClassStatistics:
    """Computes the statistics of normalised examples.

    Args:
      train: the examples; every class needs one.
      span: their `coordinates.span_basis`, where they have fewer examples than dimensions. The Bayesian rows and row priors are the same
        with it and take no more dimensions than there are examples, but the model doesn't cover features outside of the span.
    """
    counts = np.bincount(train.y)
    means = class_means(train.x, train.y, len(counts))
    if span is None:
        return ClassStatistics(counts, means, _within(train, means))
    return ClassStatistics(counts, means, _within(Normalised(train.x @ span, train.y), means @ span), span)


def _within(train: Normalised, means: Float[np.ndarray, "C r"]) -> Float[np.ndarray, "r r"]:
    """Returns the pooled covariance of examples around their class means, or around the mean of these if no class has two examples."""
    spare = len(train.y) - len(means)
    if spare == 0:
        means, spare = np.broadcast_to(means.mean(0), means.shape), len(train.y)
    scatter = np.zeros((means.shape[1],) * 2)
    for first in range(0, len(train.y), CHUNK):
        residual = train.x[first : first + CHUNK] - means[train.y[first : first + CHUNK]]
        scatter += residual.T @ residual
    return scatter / spare


class Covariances(NamedTuple):
    """A and B before they are shrunk, in the coordinates of the span where there is one.

    within: A. between: B. centre: μ. span: as in ClassStatistics.
    """

    within: Float[np.ndarray, "r r"]
    between: Float[np.ndarray, "r r"]
    centre: Float[np.ndarray, " r"]
    span: Float[np.ndarray, "d r"] | None


def covariances(statistics: ClassStatistics) -> Covariances:
    """Estimates A and B from the statistics of normalised examples.

    A is the pooled within-class covariance. B is the scatter of class means less the A/n_c that is explained by their being means of n_c
    examples. Class c has weight n_c / (n_c + 5) in μ and B, so that the classes with many examples decide.
    """
    counts, means, within, span = statistics
    means = means if span is None else means @ span
    weight = counts / (counts + TRUST)
    centre = weight @ means / weight.sum()
    scatter = ((means - centre).T * weight) @ (means - centre) / weight.sum()
    if not np.trace(within) > 1e-6 * np.trace(scatter):  # the examples of each class coincide
        within = np.eye(len(within)) * (1e-3 * np.trace(scatter) / statistics.means.shape[1] or 1.0)
    between = _positive(scatter - within * (weight / counts).sum() / weight.sum())
    if not np.trace(between) > 1e-6 * np.trace(scatter):  # noise explains all of it: keep the scatter's scale
        between = scatter if scatter.any() else within
    return Covariances(within, between, centre, span)


def class_model(train: Normalised, shrinkage: Shrinkage) -> ClassModel:
    """Fits the model to normalised examples; every class needs one. `covariances` and `shrunk_model` say how."""
    return shrunk_model(covariances(class_statistics(train)), shrinkage)


def _diagonalised(
    between: Float[np.ndarray, "r r"], within: Float[np.ndarray, "r r"]
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "r r"]]:
    """Returns the variances, smallest first, and the basis of `ClassModel`. LAPACK's generalised problem takes half as long again."""
    root = scipy.linalg.cholesky(within, lower=True)
    half = scipy.linalg.solve_triangular(root, between, lower=True)
    spread, vectors = np.linalg.eigh(scipy.linalg.solve_triangular(root, half.T, lower=True))
    return spread, scipy.linalg.solve_triangular(root, vectors, lower=True, trans="T")


def shrunk_model(estimated: Covariances, shrinkage: Shrinkage) -> ClassModel:
    """Returns the model of shrunk covariances.

    Args:
      estimated: A and B.
      shrinkage: of A and B. `within` must be above 0 where d > n − C, and `between` where d > C.
    """
    within, between, centre, span = estimated
    dim = len(within) if span is None else len(span)
    within = _shrunk(within, shrinkage.within, dim)
    with one_thread(len(within)):
        spread, basis = _diagonalised(_shrunk(between, shrinkage.between, dim), within)
    basis, spread = basis[:, ::-1], np.maximum(spread[::-1], 0.0)
    if span is None:
        return ClassModel(basis, basis.T @ within, spread, centre)
    return ClassModel(span @ basis, basis.T @ within @ span.T, spread, span @ centre)


def bayesian_rows(model: ClassModel, means: Float[ArrayT, "C d"], counts: Int[AnyArray, " C"]) -> Float[ArrayT, "C p"]:
    """Returns the Bayesian rows of classes with these means and numbers of examples, as numpy or JAX arrays, whichever `means` is."""
    noise = 1.0 / counts.astype(model.spread.dtype)[:, None]
    return mean_rows(model, (means - model.centre) @ model.basis * (model.spread / (model.spread + noise)))


def mean_rows(model: ClassModel, v: Float[ArrayT, "C r"]) -> Float[ArrayT, "C p"]:
    """Returns the rows w = A⁻¹ v, b = −½ vᵀA⁻¹v − wᵀμ of classes whose means lie at v in the model's coordinates."""
    w = v @ model.basis.T
    return with_column(w, -0.5 * (v**2).sum(1) - w @ model.centre)


def row_prior_metric(model: ClassModel, span: Float[np.ndarray, "d r"] | None = None) -> Float[np.ndarray, "d s"]:
    """Returns M = (A⁻¹BA⁻¹)^½ up to scale: a ridge on the rows of a head for features x M is the row prior.

    Args:
      model: of the classes.
      span: the one that its statistics were computed in, if any. M is then given for x M in the span, as [d, r]; otherwise it is [d, d].
    """
    basis = model.basis if span is None else span.T @ model.basis
    with one_thread(len(basis)):
        values, vectors = np.linalg.eigh((basis * model.spread) @ basis.T)
    metric = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return metric if span is None else span @ metric
