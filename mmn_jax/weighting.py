"""What each way of training a head is: example weights ω and logit offsets a, from labels alone.

Every function is `(key, y [n], counts [C]) -> Weighting`, for the one problem of `heads.py`:

    Σ_j ω_j · CE(W x_j + b + a, y_j) / Σ_j ω_j  +  (ℓ/2) ‖W‖²

The four here are the baselines of Wang et al. 2017, section 4.1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from mmn_jax.data.longtail import random_ranks


class Weighting(NamedTuple):
    """weight: [n] ω ≥ 0. offset: [C] a."""

    weight: np.ndarray
    offset: np.ndarray


Method = Callable[[jax.Array, np.ndarray, np.ndarray], Weighting]


def _no_offset(weight, counts):
    return Weighting(weight.astype(np.float32), np.zeros(len(counts), np.float32))


def plain(key: jax.Array, y: np.ndarray, counts: np.ndarray) -> Weighting:
    """Every example once."""
    return _no_offset(np.ones(len(y)), counts)


def over_sampling(key: jax.Array, y: np.ndarray, counts: np.ndarray) -> Weighting:
    """Random over-sampling: each class is filled up to the largest one by drawing its examples again.

    A weight is how often its example stands in the resampled set, the same problem as copying it.
    """
    missing = counts.max() - counts
    draws = np.asarray(jax.random.uniform(key, (len(counts), int(missing.max()))))
    order = np.argsort(y, kind="stable")
    start = np.cumsum(counts) - counts
    drawn = order[start[:, None] + np.minimum((draws * counts[:, None]).astype(int), counts[:, None] - 1)]
    used = np.arange(draws.shape[1]) < missing[:, None]
    return _no_offset(1.0 + np.bincount(drawn[used], minlength=len(y)), counts)


def under_sampling(key: jax.Array, y: np.ndarray, counts: np.ndarray) -> Weighting:
    """Random under-sampling: no class keeps more examples than the median class has."""
    return _no_offset((random_ranks(key, y) < int(np.median(counts))).astype(float), counts)


def cost_sensitive(key: jax.Array, y: np.ndarray, counts: np.ndarray) -> Weighting:
    """Weights inverse to class frequency, ω_j = 1 / n_{y_j}: every class weighs the same."""
    return _no_offset(counts.max() / counts[y], counts)
