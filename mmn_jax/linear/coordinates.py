"""The coordinates in which a head whose ridge is measured in a metric M is solved.

    minimise  loss(W x) + (ℓ/2) ‖V‖²  over  W = V Mᵀ:    V = fit_head(x M)

With an orthonormal basis Q, fit_head(x M Q) gives the same head, W = V (M Q)ᵀ. Eigenvectors of the covariance of x M make Newton's
diagonal preconditioner a good one. With fewer examples than dimensions, x M lies in an n-dimensional subspace: with a basis of it, the
head costs only n dimensions.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mmn_jax.linear.problem import padded
from mmn_jax.machine import one_thread

PAD = 128  # the number of dimensions is rounded up to a multiple of it, so that similar numbers of examples share one compiled program


class Coordinates(NamedTuple):
    """The map between features and rows and those that a head is solved with.

    metric: M, as a vector where it is diagonal. inverse: the inverse of M, or a pseudo-inverse. x: the training set's features in these
    coordinates; None where they are computed on demand.
    """

    metric: Float[np.ndarray, " d"] | Float[np.ndarray, "d r"]
    inverse: Float[np.ndarray, " d"] | Float[np.ndarray, "r d"]
    x: Float[np.ndarray, "n r"] | None = None

    def features(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n r"]:
        """Returns features x in these coordinates."""
        return x * self.metric if self.metric.ndim == 1 else x @ self.metric

    def out(self, theta: Float[np.ndarray, "C q"]) -> Float[np.ndarray, "C p"]:
        """Returns the rows, for features x, of a head solved in these coordinates."""
        return np.concatenate([_times(theta[:, :-1], self.metric.T), theta[:, -1:]], 1)

    def into(self, theta: Float[np.ndarray, "C p"]) -> Float[np.ndarray, "C q"]:
        """Returns the rows in these coordinates of a head for features x; the inverse of `out`."""
        return np.concatenate([_times(theta[:, :-1], self.inverse.T), theta[:, -1:]], 1)


def _times(w, metric):
    return w * metric if metric.ndim == 1 else w @ metric


def is_wide(x: Float[np.ndarray, "n d"]) -> bool:
    """Returns whether features have so many more dimensions than examples that it pays to work in their span."""
    return padded(len(x), PAD) < x.shape[1]


def span_basis(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d n"]:
    """Returns orthonormal columns whose span contains the features x, n < d."""
    with one_thread(len(x)):
        return np.linalg.qr(x.T.astype(float))[0]


def coordinates(metric: Float[np.ndarray, " d"] | Float[np.ndarray, "d d"]) -> Coordinates:
    """Returns the Coordinates of an invertible metric M."""
    return Coordinates(metric, 1 / metric if metric.ndim == 1 else np.linalg.inv(metric.astype(float)).astype(np.float32))


def principal_axes(x: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "d d"], Float[np.ndarray, " d"]]:
    """Returns the eigenvectors, as columns, and the eigenvalues of the covariance of features."""
    centred = x - x.mean(0)
    with one_thread(x.shape[1]):
        values, basis = np.linalg.eigh(centred.T @ centred / len(x))
    return basis.astype(np.float32), np.maximum(values, 0).astype(np.float32)


def eigen_coordinates(metric: Float[np.ndarray, " d"] | Float[np.ndarray, "d d"], x: Float[np.ndarray, "n d"]) -> Coordinates:
    """Returns the Coordinates of an invertible metric M, rotated into the eigenbasis of the covariance of features x M."""
    given = coordinates(metric)
    basis, _ = principal_axes(given.features(x))
    metric_q, inverse = _times(basis.T, given.metric.T).T, _times(basis.T, given.inverse)  # M Q and Qᵀ M⁻¹
    return Coordinates(metric_q, inverse)


def span_coordinates(
    metric: Float[np.ndarray, " d"] | Float[np.ndarray, "d n"], x: Float[np.ndarray, "n d"], span: Float[np.ndarray, "d n"]
) -> Coordinates:
    """Returns the Coordinates in which wide features x take only n dimensions, padded to a multiple of PAD.

    Args:
      metric: M, a vector where it is diagonal, or M applied to the span of x (`class_model.row_prior_metric` with a span).
      x: the training set's features.
      span: their `span_basis`.
    """
    if metric.ndim == 1:
        basis = span_basis(x * metric)
        whole, inverse = metric[:, None] * basis, basis.T / metric
    else:
        with one_thread(len(x)):
            whole, inverse = metric, np.linalg.pinv(span.T @ metric) @ span.T
    spare = padded(len(x), PAD) - whole.shape[1]
    whole, inverse = (np.pad(one, pad).astype(np.float32) for one, pad in ((whole, ((0, 0), (0, spare))), (inverse, ((0, spare), (0, 0)))))
    return Coordinates(whole, inverse, x @ whole)
