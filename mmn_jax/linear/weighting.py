"""What each way of training a head is: example weights ω and logit offsets a, from labels alone.

Every `Rule` is a function (key, y [n], counts [C]) → Weighting, for the one problem of `linear/solve.py`:

    Σ_j ω_j · CE(W x_j + b + a, y_j) / Σ_j ω_j  +  (ℓ/2) ‖W‖²
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from mmn_jax.data.longtail import random_ranks
from mmn_jax.errors import BadInput
from mmn_jax.linear.rows import log_prior
from mmn_jax.rng import uniform


class Weighting(NamedTuple):
    """weight: [n] ω ≥ 0. offset: [C] a, or [n, C] where it differs by example."""

    weight: np.ndarray
    offset: np.ndarray


Rule = Callable[[jax.Array, np.ndarray, np.ndarray], Weighting]


def checked(drawn: Weighting, examples: int, classes: int) -> Weighting:
    """The weighting as it is, where it is one.

    Raises:
      BadInput: a shape or a number that it cannot have.
    """
    weight, offset = map(np.asarray, drawn)
    if weight.shape != (examples,) or not (np.isfinite(weight) & (weight >= 0)).all() or not weight.any():
        raise BadInput(f"weighting: weight must be {examples} numbers from 0 up, one for each example and not all 0")
    if offset.shape not in ((classes,), (examples, classes)) or not np.isfinite(offset).all():
        raise BadInput(f"weighting: offset must be {classes} numbers, one for each class, or {examples} rows of them")
    return Weighting(weight, offset)


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
    draws = uniform(key, len(counts) * int(missing.max())).reshape(len(counts), -1)
    order = np.argsort(y, kind="stable")
    start = np.cumsum(counts) - counts
    drawn = order[start[:, None] + np.minimum((draws * counts[:, None]).astype(int), counts[:, None] - 1)]
    used = np.arange(draws.shape[1]) < missing[:, None]
    return _no_offset(1.0 + np.bincount(drawn[used], minlength=len(y)), counts)


def under_sampling(key: jax.Array, y: np.ndarray, counts: np.ndarray) -> Weighting:
    """Random under-sampling: no class keeps more examples than the median class has."""
    return _no_offset((random_ranks(key, y) < max(int(np.median(counts)), 1)).astype(float), counts)


def inverse_frequency(power: float) -> Rule:
    """Weights ω_j = n_{y_j}^−power: 1 is cost-sensitive learning (every class weighs the same), ½ square-root sampling
    (Kang et al. 2020, section 3), 0 plain."""

    return lambda key, y, counts: _no_offset((counts.max() / counts[y]) ** power, counts)


cost_sensitive = inverse_frequency(1.0)


def effective_number(beta: float) -> Rule:
    """Class-balanced weights (1 − β) / (1 − β^n) by the effective number of examples (Cui et al. 2019, equation 10)."""

    def draw(key, y, counts):
        weight = (1 - beta) / -np.expm1(counts * np.log(beta))
        return _no_offset((weight / weight.min())[y], counts)

    return draw


def logit_adjusted(tau: float) -> Rule:
    """The logit-adjusted loss, a = τ log π (Menon et al. 2021, equation 10); τ = 1 is balanced softmax (Ren et al. 2020)."""

    def draw(key, y, counts):
        return Weighting(np.ones(len(y), np.float32), (tau * log_prior(counts)).astype(np.float32))

    return draw
