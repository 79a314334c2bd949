"""How classes are related by their descriptions, and what that says of one class's mean given the others'.

The covariance of class means in one coordinate, in units of its variance v, is

    R = (1 − ρ) I + ρ K,    K = F Fᵀ + diag(a)

with F [C, m] the centred descriptions at unit norm; a is 1 for a class without a description, whose row of F is zero. Means that are
observed with noise D = diag(1/n_c) have the expectation v R (v R + D)⁻¹ m̄. Up to MANY classes, one eigendecomposition for each share ρ,
D^−½ R D^−½ = U diag(S) Uᵀ, serves all coordinates. For more, with Δ = v (1 − ρ) I + v ρ diag(a) + D, by the Woodbury identity,

    (v R + D)⁻¹ = Δ⁻¹ − v ρ Δ⁻¹ F (I + v ρ Fᵀ Δ⁻¹ F)⁻¹ Fᵀ Δ⁻¹

in which Fᵀ Δ⁻¹ F is needed for every coordinate. Δ⁻¹ of a class is the smooth function n / (1 + n v (1 − ρ)) of its count and its
coordinate, so that all of these matrices are combinations of about twenty.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int, Shaped

from mmn_jax.machine import one_thread

MANY = 1000  # classes above which no decomposition of all of them is made
DIGITS = 1e-11  # relative accuracy of Δ⁻¹ as a combination
TYPICAL = 256  # counts that represent those of all classes where combinations are looked for


class Relations(NamedTuple):
    """The kernel K of the classes' descriptions.

    unit: F. alone: a.
    """

    unit: Float[np.ndarray, "C m"]
    alone: Float[np.ndarray, " C"]

    def kernel(self) -> Float[np.ndarray, "C C"]:
        """Returns K."""
        return self.unit @ self.unit.T + np.diag(self.alone)

    def at(self, classes: Int[np.ndarray, " c"]) -> "Relations":
        """Returns the relations among some of the classes."""
        return Relations(self.unit[classes], self.alone[classes])


def relations(descriptions: Float[np.ndarray, "C m"]) -> Relations:
    """Returns how classes with these descriptions are related: by inner products of descriptions, centred and at unit norm.

    A class whose description is all zeros has none: it is left out of the centre, and related to no other class.
    """
    there = descriptions.any(1, keepdims=True)
    centred = np.where(there, descriptions - descriptions.mean(0, where=there), 0.0)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    known = norm > 1e-6 * norm.max()
    unit = np.divide(centred, norm, out=np.zeros_like(centred, float), where=known)
    return Relations(unit, 1.0 - known[:, 0])


def evenly(counts: Shaped[np.ndarray, " C"], most: int) -> Int[np.ndarray, " c"]:
    """Returns the positions of at most `most` classes, evenly spaced in the order of their counts, which is theirs, too."""
    return np.argsort(counts, kind="stable")[np.linspace(0, len(counts) - 1, min(most, len(counts))).round().astype(int)]


class Eigen(NamedTuple):
    """S and U of D^−½ R D^−½ = U diag(S) Uᵀ; U is None for the identity."""

    values: Float[np.ndarray, " C"]
    vectors: Float[np.ndarray, "C C"] | None

    def rotated(self, means: Float[np.ndarray, "C b"], counts: Float[np.ndarray, " C"]) -> Float[np.ndarray, "C b"]:
        """Returns Uᵀ D^−½ m̄."""
        scaled = means * np.sqrt(counts)[:, None]
        return scaled if self.vectors is None else self.vectors.T @ scaled

    def back(self, z: Float[np.ndarray, "C b"], counts: Float[np.ndarray, " C"]) -> Float[np.ndarray, "C b"]:
        """Returns D^½ U z."""
        return (z if self.vectors is None else self.vectors @ z) / np.sqrt(counts)[:, None]


Decompositions = Callable[[float], Eigen]  # of D^−½ R D^−½, by share


def decompositions(related: Relations | None, counts: Float[np.ndarray, " C"]) -> Decompositions:
    """Returns the decompositions for every share ρ, each computed on first use."""
    kernel = None if related is None else functools.cache(related.kernel)

    @functools.cache
    def decomposed(share):
        if share == 0 or kernel is None:
            return Eigen(counts, None)
        root = np.sqrt(counts)
        with one_thread():
            values, vectors = np.linalg.eigh(((1 - share) * np.eye(len(counts)) + share * kernel()) * root[:, None] * root)
        return Eigen(np.maximum(values, 0.0), vectors)

    return decomposed


def related_means(
    variance: Float[np.ndarray, " r"],
    share: Float[np.ndarray, " r"],
    related: Relations | None,
    means: Float[np.ndarray, "C r"],
    counts: Float[np.ndarray, " C"],
    decomposed: Decompositions | None = None,
) -> Float[np.ndarray, "C r"]:
    """Returns the expected means of classes, given the observed ones and the number of examples behind each, which needn't be whole.

    Args:
      variance: v of each coordinate.
      share: ρ of each coordinate.
      related: K; None where all shares are 0.
      means: m̄.
      counts: n_c.
      decomposed: the decompositions for these counts, where they are known already; used for up to MANY classes that have relations.
    """
    if related is not None and len(counts) > MANY:
        return _by_woodbury(variance, share, related, means, counts)
    found = np.empty_like(means)
    if decomposed is None or related is None:
        decomposed = decompositions(related, counts)
    for one in np.unique(share):
        there, each = share == one, decomposed(float(one))
        signal = variance[there] * each.values[:, None]
        found[:, there] = each.back(signal / (signal + 1) * each.rotated(means[:, there], counts), counts)
    return found


def _combinations(own: Float[np.ndarray, " r"], counts: Float[np.ndarray, " C"]) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, "k r"]]:
    """Finds a few coordinates of whose n / (1 + n own_j) those of every coordinate are combinations, whatever n within `counts`.

    Returns:
      The coordinates, and the factors that give each coordinate.
    """
    typical = counts[evenly(counts, TYPICAL)][:, None]
    _, triangle, order = scipy.linalg.qr(typical * own / (1 + typical * own), mode="economic", pivoting=True)
    used = int((np.abs(np.diag(triangle)) > DIGITS * abs(triangle[0, 0])).sum())
    factors = np.empty((used, len(own)))
    factors[:, order] = scipy.linalg.solve_triangular(triangle[:used, :used], triangle[:used])
    return order[:used], factors * own[order[:used], None] / own


def _by_woodbury(
    variance: Float[np.ndarray, " r"],
    share: Float[np.ndarray, " r"],
    related: Relations,
    means: Float[np.ndarray, "C r"],
    counts: Float[np.ndarray, " C"],
) -> Float[np.ndarray, "C r"]:
    unit, own = related.unit, variance * (1 - share)
    inverse = 1 / (own + variance * share * related.alone[:, None] + 1 / counts[:, None])  # Δ⁻¹ [C, r]
    chosen, factors = _combinations(own, counts)
    grams = np.stack([(unit * (counts / (1 + counts * own[j]))[:, None]).T @ unit for j in chosen]).reshape(len(chosen), -1)
    seen = unit.T @ (inverse * means)  # Fᵀ Δ⁻¹ m̄ [m, r]
    told, identity = np.empty_like(seen), np.eye(unit.shape[1])
    with one_thread(len(identity)):
        for j, weight in enumerate(variance * share):
            gram = identity + weight * (factors[:, j] @ grams).reshape(identity.shape)
            told[:, j] = weight * scipy.linalg.solve(gram, seen[:, j], assume_a="pos")
    return means - inverse * (means - unit @ told) / counts[:, None]
