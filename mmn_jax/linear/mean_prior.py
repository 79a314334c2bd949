"""Estimates where class means lie from what relates classes to each other: their descriptions, and examples without labels.

In the coordinates of a `ClassModel`, where A = I and B = diag(λ), the class means have, coordinate by coordinate, the prior and the noise

    m_j ~ N(0, s λ_j R_j),    R_j = (1 − ρ_j) I + ρ_j K,    m̄_j | m_j ~ N(m_j, D),    D = diag(1/n_c)

K is the kernel of the classes' descriptions (`relations.py`). The scale s and the shares ρ_j, one for a band of coordinates, maximise the
marginal likelihood of the observed means. With the eigendecomposition D^−½ R D^−½ = U diag(S) Uᵀ and Z = Uᵀ D^−½ m̄_j,

    E[m_j | m̄_j] = D^½ U (s λ_j S / (s λ_j S + 1) ∘ Z),    −2 log p = Σ_i log(s λ_j S_i + 1) + Z_i² / (s λ_j S_i + 1)

up to a constant. Of many classes, some are enough for the likelihood. Where ρ = 0 and s = 1, these are the means of the Bayesian rows
(`class_model.py`). Examples without labels enter by their responsibilities, as further examples of a class that count less (EM; McLachlan
and Peel 2000, chapter 2).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import softmax

from mmn_jax.linear.class_model import ClassModel, ClassStatistics, mean_rows
from mmn_jax.linear.relations import MANY, Decompositions, Relations, decompositions, evenly, related_means

SCALES: np.ndarray = 2.0 ** np.arange(-4, 2.5, 0.5)  # s
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97)  # ρ
FIRST_BAND, GROWTH = 8, 1.5  # coordinates in the band of the largest variances, and how much wider each next band is

COUNTED = 0.2  # of an example: what one without a label counts at most
STEPS = 10  # of EM
UNKNOWN = 0.1  # prior probability that an example without a label belongs to no class
CHUNK_FLOATS = 2**22  # of the responsibilities in memory at once


class MeanPrior(NamedTuple):
    """The prior of class means in the coordinates of a ClassModel.

    variance: s λ_j. share: ρ_j. related: K; None where the classes have no descriptions, and all shares are 0.
    """

    variance: Float[np.ndarray, " r"]
    share: Float[np.ndarray, " r"]
    related: Relations | None


def _bands(dim: int) -> Iterator[slice]:
    """Yields bands of coordinates, the first ones narrow."""
    first, width = 0, float(FIRST_BAND)
    while first < dim:
        last = min(dim, first + int(width))
        yield slice(first, last)
        first, width = last, width * GROWTH


def typical_classes(counts: Shaped[np.ndarray, " C"]) -> Int[np.ndarray, " c"]:
    """Returns the positions of at most MANY classes, evenly spaced in the order of their counts; of all up to that number."""
    return np.sort(evenly(counts, MANY))


def typical_decompositions(related: Relations | None, counts: Float[np.ndarray, " C"]) -> Decompositions:
    """Returns the decompositions for the classes that a prior is fitted to."""
    some = typical_classes(counts)
    return decompositions(None if related is None else related.at(some), counts[some])


def fit_mean_prior(
    spread: Float[np.ndarray, " r"],
    means: Float[np.ndarray, "C r"],
    counts: Float[np.ndarray, " C"],
    related: Relations | None = None,
    decomposed: Decompositions | None = None,
) -> MeanPrior:
    """Fits the prior by the marginal likelihood of typical classes: one scale, and a share of the kernel for each band of coordinates.

    Args:
      spread: λ of a ClassModel.
      means: observed class means in its coordinates.
      counts: the number of examples of each class.
      related: the classes' descriptions, if they have any.
      decomposed: the `typical_decompositions` for these counts, where they are known already.
    """
    some, decomposed = typical_classes(counts), decomposed or typical_decompositions(related, counts)
    shares = SHARES if related is not None else (0.0,)
    bands = list(_bands(len(spread)))
    misfit = np.empty((len(shares), len(SCALES), len(bands)))  # −2 log p
    for i, share in enumerate(shares):
        eigen = decomposed(share)
        square = eigen.rotated(means[some], counts[some]) ** 2
        for k, scale in enumerate(SCALES):
            signal = scale * spread * eigen.values[:, None] + 1
            by_coordinate = (np.log(signal) + square / signal).sum(0)
            misfit[i, k] = [by_coordinate[band].sum() for band in bands]
    best = int(misfit.min(0).sum(1).argmin())
    of_band = np.array(shares)[misfit[:, best].argmin(0)]
    return MeanPrior(SCALES[best] * spread, np.repeat(of_band, [band.stop - band.start for band in bands]), related)


def posterior_means(
    prior: MeanPrior, means: Float[np.ndarray, "C r"], counts: Float[np.ndarray, " C"], decomposed: Decompositions | None = None
) -> Float[np.ndarray, "C r"]:
    """Returns the expected class means, given the observed ones and the number of examples behind each (`related_means`)."""
    return related_means(prior.variance, prior.share, prior.related, means, counts, decomposed)


def _background(model: ClassModel, prior: MeanPrior, x: Float[np.ndarray, "u d"]) -> Float[np.ndarray, " u"]:
    """Returns log N(x; μ, A + B) + ½ |x|² up to the constant of a class's density: examples of no class in particular."""
    z, variance = (x - model.centre) @ model.basis, prior.variance + 1
    return 0.5 * (z**2 * (1 - 1 / variance)).sum(1) - 0.5 * np.log(variance).sum()


def with_unlabelled(
    model: ClassModel,
    prior: MeanPrior,
    means: Float[np.ndarray, "C r"],
    counts: Float[np.ndarray, " C"],
    unlabelled: Float[np.ndarray, "u d"],
) -> tuple[Float[np.ndarray, "C r"], Float[np.ndarray, " C"]]:
    """Adds unlabelled examples to the class means, by EM.

    An example's responsibilities are the probabilities of the classes, all equally frequent, and of none of them, under the expected class
    means. It counts COUNTED times its responsibility as an example of a class.

    Args:
      model: of the classes.
      prior: of the class means.
      means: observed class means in the model's coordinates.
      counts: the number of labelled examples of each class.
      unlabelled: normalised features.

    Returns:
      The means of all examples of each class, and their numbers, which aren't whole.
    """
    classes = len(counts)
    size = max(1, CHUNK_FLOATS // max(classes, unlabelled.shape[1]))
    chunks = [unlabelled[first : first + size] for first in range(0, len(unlabelled), size)]
    nowhere = [_background(model, prior, chunk) + np.log(UNKNOWN) for chunk in chunks]
    all_means, all_counts = means, counts
    for _ in range(STEPS):
        rows = mean_rows(model, posterior_means(prior, all_means, all_counts)).astype(np.float32)
        total, number = np.zeros((classes, unlabelled.shape[1])), np.zeros(classes)
        for chunk, none in zip(chunks, nowhere, strict=True):
            score = chunk @ rows[:, :-1].T + rows[:, -1] + np.log((1 - UNKNOWN) / classes)
            share = softmax(np.concatenate([score, none[:, None]], 1), axis=1)[:, :-1].astype(np.float32)
            total, number = total + share.T @ chunk, number + share.sum(0)
        soft = (total - number[:, None] * model.centre) @ model.basis
        all_counts = counts + COUNTED * number
        all_means = (counts[:, None] * means + COUNTED * soft) / all_counts[:, None]
    return all_means, all_counts


def informed_rows(
    model: ClassModel,
    statistics: ClassStatistics,
    related: Relations | None = None,
    unlabelled: Float[np.ndarray, "u d"] | None = None,
    decomposed: Decompositions | None = None,
) -> Float[np.ndarray, "C p"]:
    """Returns the Bayesian rows of classes whose means follow what descriptions and unlabelled examples say of them.

    Args:
      model: of the classes.
      statistics: of their labelled examples.
      related: the classes' descriptions, if they have any.
      unlabelled: normalised features of examples without labels, if there are any.
      decomposed: the `typical_decompositions` for the classes' counts, where they are known already.
    """
    means, counts = (statistics.means - model.centre) @ model.basis, statistics.counts.astype(float)
    decomposed = decomposed or typical_decompositions(related, counts)
    prior = fit_mean_prior(np.asarray(model.spread), means, counts, related, decomposed)
    if unlabelled is not None and len(unlabelled):
        means, counts = with_unlabelled(model, prior, means, counts, unlabelled)
        return mean_rows(model, posterior_means(prior, means, counts))
    return mean_rows(model, posterior_means(prior, means, counts, decomposed))
