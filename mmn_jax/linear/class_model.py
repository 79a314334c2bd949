"""The Gaussian model of classes: how class means scatter, learned from the classes that have many examples.

    x | c ~ N(m_c, A),    m_c ~ N(μ, B)

It says in closed form how a row moves as examples grow. The mean m̄ of n examples is shrunk to

    v = B (B + A/n)⁻¹ (m̄ − μ),    and its row is  w = A⁻¹ v,   b = −½ vᵀA⁻¹v − wᵀμ,

the Bayesian row. It also says what rows there are before any example is seen, w ~ N(0, A⁻¹BA⁻¹):
the row prior. Both are linear mixed models of the features (Henderson 1975; Ioffe 2006, probabilistic LDA).
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg

from mmn_jax.machine import one_thread
from mmn_jax.types import Examples

TRUST = 5.0  # examples at which a class's mean counts half as much in μ and B as one that is known exactly

CHUNK = 4096  # examples whose residuals are in memory at once


class ClassModel(NamedTuple):
    """A and B diagonalised at once: basisᵀ A basis = I, basisᵀ B basis = diag(spread).

    basis: [d, r], x basis are whitened features; inverse: [r, d], w inverseᵀ their weights. spread: [r], between-class variance in
    units of the within-class one, largest first. centre: [d] μ. r is d, or fewer dimensions in which all features lie.
    """

    basis: np.ndarray
    inverse: np.ndarray
    spread: np.ndarray
    centre: np.ndarray


class Shrinkage(NamedTuple):
    """How far A (within) and B (between) are shrunk to multiples of the identity of the same trace, 0 to 1."""

    within: float
    between: float


def class_means(x: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    """[C, d] mean of each class in float64; every class has an example."""
    means = np.zeros((classes, x.shape[1]))
    np.add.at(means, y, x)
    return means / np.bincount(y, minlength=classes)[:, None]


def _shrunk(covariance, share, dim):
    """Towards the multiple of the identity whose trace in all `dim` dimensions is the same."""
    return (1 - share) * covariance + share * np.trace(covariance) / dim * np.eye(len(covariance))


def _positive(covariance):
    """The nearest positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


class ClassStatistics(NamedTuple):
    """What a ClassModel is made of. counts: [C] examples, means: [C, d], within: [d, d] pooled covariance around the means; where a
    `span` [d, r] is given, which holds all features, [r, r] in its coordinates."""

    counts: np.ndarray
    means: np.ndarray
    within: np.ndarray
    span: np.ndarray | None = None


def class_statistics(train: Examples, span: np.ndarray | None = None) -> ClassStatistics:
    """Of normalised examples; every class has at least one. With their `coordinates.span_basis` nothing takes more dimensions than there
    are examples, and the Bayesian rows and row priors are the same; the model then knows nothing of what lies outside of the span."""
    counts = np.bincount(train.y)
    means = class_means(train.x, train.y, len(counts))
    if span is None:
        return ClassStatistics(counts, means, _within(train, means))
    return ClassStatistics(counts, means, _within(Examples(train.x @ span, train.y), means @ span), span)


def _within(train, means):
    """[d, d] pooled covariance of examples around their class means; around the mean of all where no class has two."""
    spare = len(train.y) - len(means)
    if spare == 0:
        means, spare = np.broadcast_to(means.mean(0), means.shape), len(train.y)
    scatter = np.zeros((means.shape[1],) * 2)
    for first in range(0, len(train.y), CHUNK):
        residual = train.x[first : first + CHUNK] - means[train.y[first : first + CHUNK]]
        scatter += residual.T @ residual
    return scatter / spare


def class_model(train: Examples, shrinkage: Shrinkage) -> ClassModel:
    """`model_of` the statistics of a training set."""
    return model_of(class_statistics(train), shrinkage)


def model_of(statistics: ClassStatistics, shrinkage: Shrinkage) -> ClassModel:
    """The model of the classes with these statistics.

    A is the pooled within-class covariance. B is what the scatter of class means has beyond the A/n_c that their few
    examples explain; class c weighs n_c / (n_c + 5) in μ and B, so that the classes with many decide.

    Args:
      statistics: of normalised examples.
      shrinkage: of A and B. within must be above 0 where d is above n − C, between where d is above C.
    """
    counts, means, within, span = statistics
    dim = means.shape[1]
    means = means if span is None else means @ span
    weight = counts / (counts + TRUST)
    centre = weight @ means / weight.sum()
    scatter = ((means - centre).T * weight) @ (means - centre) / weight.sum()
    if not np.trace(within) > 1e-6 * np.trace(scatter):  # the examples of each class are all alike
        within = np.eye(len(within)) * (1e-3 * np.trace(scatter) / dim or 1.0)
    within = _shrunk(within, shrinkage.within, dim)
    between = _positive(scatter - within * (weight / counts).sum() / weight.sum())
    if not np.trace(between) > 1e-6 * np.trace(scatter):  # noise explains all of it: keep the scatter's scale
        between = scatter if scatter.any() else within
    with one_thread(len(within)):
        spread, basis = scipy.linalg.eigh(_shrunk(between, shrinkage.between, dim), within)
    basis, spread = basis[:, ::-1], np.maximum(spread[::-1], 0.0)
    if span is None:
        return ClassModel(basis, basis.T @ within, spread, centre)
    return ClassModel(span @ basis, basis.T @ within @ span.T, spread, span @ centre)


def bayesian_rows(model: ClassModel, means: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """[C, d+1] rows of classes whose `counts` [C] examples have these means [C, d]; of numpy or of JAX arrays."""
    noise = 1.0 / counts.astype(model.spread.dtype)[:, None]
    shrunk = (means - model.centre) @ model.basis * (model.spread / (model.spread + noise))
    w = shrunk @ model.basis.T
    return means.__array_namespace__().concat([w, (-0.5 * (shrunk**2).sum(1) - w @ model.centre)[:, None]], axis=1)


def row_prior_metric(model: ClassModel, span: np.ndarray | None = None) -> np.ndarray:
    """[d, d] M = (A⁻¹BA⁻¹)^½ up to scale: a ridge on the rows of a head of features x M is the row prior. [d, r] for the model of
    features in a span [d, r]."""
    basis = model.basis if span is None else span.T @ model.basis
    with one_thread(len(basis)):
        values, vectors = np.linalg.eigh((basis * model.spread) @ basis.T)
    metric = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return metric if span is None else span @ metric
