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

from mmn_jax.types import Examples

TRUST = 5.0  # examples at which a class's mean counts half as much in μ and B as one that is known exactly

CHUNK = 4096  # examples whose residuals are in memory at once


class ClassModel(NamedTuple):
    """A and B diagonalised at once: basisᵀ A basis = I, basisᵀ B basis = diag(spread).

    basis: [d, d], x basis are whitened features; inverse: [d, d], w inverseᵀ their weights. spread: [d], between-class variance in
    units of the within-class one, largest first. centre: [d] μ.
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


def _shrunk(covariance, share):
    dim = len(covariance)
    return (1 - share) * covariance + share * np.trace(covariance) / dim * np.eye(dim)


def _positive(covariance):
    """The nearest positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


class ClassStatistics(NamedTuple):
    """What a ClassModel is made of. counts: [C] examples, means: [C, d], within: [d, d] pooled covariance around the means."""

    counts: np.ndarray
    means: np.ndarray
    within: np.ndarray


def class_statistics(train: Examples) -> ClassStatistics:
    """Of normalised examples; every class has at least one."""
    counts = np.bincount(train.y)
    means = class_means(train.x, train.y, len(counts))
    return ClassStatistics(counts, means, _within(train, means))


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
    counts, means, within = statistics
    weight = counts / (counts + TRUST)
    centre = weight @ means / weight.sum()
    scatter = ((means - centre).T * weight) @ (means - centre) / weight.sum()
    if not np.trace(within) > 1e-6 * np.trace(scatter):  # the examples of each class are all alike
        within = np.eye(len(within)) * (1e-3 * np.trace(scatter) / len(within) or 1.0)
    within = _shrunk(within, shrinkage.within)
    between = _positive(scatter - within * (weight / counts).sum() / weight.sum())
    if not np.trace(between) > 1e-6 * np.trace(scatter):  # noise explains all of it: keep the scatter's scale
        between = scatter if scatter.any() else within
    spread, basis = scipy.linalg.eigh(_shrunk(between, shrinkage.between), within)
    basis = basis[:, ::-1]
    return ClassModel(basis, basis.T @ within, np.maximum(spread[::-1], 0.0), centre)


def bayesian_rows(model: ClassModel, means: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """[C, d+1] rows of classes whose `counts` [C] examples have these means [C, d]; of numpy or of JAX arrays."""
    noise = 1.0 / counts.astype(model.spread.dtype)[:, None]
    shrunk = (means - model.centre) @ model.basis * (model.spread / (model.spread + noise))
    w = shrunk @ model.basis.T
    return means.__array_namespace__().concat([w, (-0.5 * (shrunk**2).sum(1) - w @ model.centre)[:, None]], axis=1)


def row_prior_metric(model: ClassModel) -> np.ndarray:
    """[d, d] M = (A⁻¹BA⁻¹)^½ up to scale: a ridge on the rows of a head of features x M is the row prior."""
    values, vectors = np.linalg.eigh((model.basis * model.spread) @ model.basis.T)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
