"""The coordinates in which a head under a ridge in a metric M is solved.

    minimise loss(W x) + (ℓ/2) ‖W‖² in the metric M:   W = V Mᵀ,  V = fit_head(x M)

With fewer examples than dimensions, features x M of a training set lie in n dimensions: with a basis Q of these, fit_head(x M Q) gives the
same head, W = V (M Q)ᵀ, and costs no more than n dimensions do.
"""

from typing import NamedTuple

import numpy as np

from mmn_jax.linear.problem import padded
from mmn_jax.machine import one_thread

PAD = 128  # dimensions are filled up to a multiple of it, so that similar numbers of examples share one compiled program


class Coordinates(NamedTuple):
    """metric: M [d], where it is diagonal, or [d, r]. inverse: of M, [d] or [r, d]. x: [n, r] the training set's features in them, None
    where they are computed when they are needed."""

    metric: np.ndarray
    inverse: np.ndarray
    x: np.ndarray | None = None

    def features(self, x: np.ndarray) -> np.ndarray:
        """[n, r] of features x [n, d]."""
        return x * self.metric if self.metric.ndim == 1 else x @ self.metric

    def out(self, theta: np.ndarray) -> np.ndarray:
        """Rows [C, d+1] of those [C, r+1] of a head in these coordinates."""
        return np.concatenate([_times(theta[:, :-1], self.metric.T), theta[:, -1:]], 1)

    def into(self, theta: np.ndarray) -> np.ndarray:
        """Rows [C, r+1] of a head's [C, d+1]."""
        return np.concatenate([_times(theta[:, :-1], self.inverse.T), theta[:, -1:]], 1)


def _times(w, metric):
    return w * metric if metric.ndim == 1 else w @ metric


def is_wide(x: np.ndarray) -> bool:
    """Whether features [n, d] have so many more dimensions than examples that working in their span pays."""
    return padded(len(x), PAD) < x.shape[1]


def span_basis(x: np.ndarray) -> np.ndarray:
    """[d, n] orthonormal columns whose span holds the features x [n, d], n < d."""
    with one_thread(len(x)):
        return np.linalg.qr(x.T.astype(float))[0]


def coordinates(metric: np.ndarray) -> Coordinates:
    """Those of a metric M [d] or [d, d]."""
    return Coordinates(metric, 1 / metric if metric.ndim == 1 else np.linalg.inv(metric.astype(float)).astype(np.float32))


def span_coordinates(metric: np.ndarray, x: np.ndarray, span: np.ndarray) -> Coordinates:
    """Those in which wide features x [n, d] need only n dimensions. metric: M [d], or [d, n] from features whose `span_basis` is given."""
    if metric.ndim == 1:
        basis = span_basis(x * metric)
        whole, inverse = metric[:, None] * basis, basis.T / metric
    else:
        with one_thread(len(x)):
            whole, inverse = metric, np.linalg.pinv(span.T @ metric) @ span.T
    spare = padded(len(x), PAD) - whole.shape[1]
    whole, inverse = (np.pad(one, pad).astype(np.float32) for one, pad in ((whole, ((0, 0), (0, spare))), (inverse, ((0, spare), (0, 0)))))
    return Coordinates(whole, inverse, x @ whole)
