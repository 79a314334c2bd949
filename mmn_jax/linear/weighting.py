"""Ways to train a head on long-tailed data, as example weights ω and logit offsets a that depend on labels alone.

Every `Rule` is a function (key, labels y, class counts) → Weighting, for the problem of `linear/solve.py`:

    Σ_j ω_j · CE(W x_j + b + a, y_j) / Σ_j ω_j  +  (ℓ/2) ‖W‖²
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, Key

from mmn_jax.data.longtail import random_ranks
from mmn_jax.errors import BadInput
from mmn_jax.linear.rows import log_prior
from mmn_jax.rng import uniform


class Weighting(NamedTuple):
    """weight: example weights ω ≥ 0. offset: a, added to the logits in training, the same for all examples or one row for each."""

    weight: Float[np.ndarray, " n"]
    offset: Float[np.ndarray, " C"] | Float[np.ndarray, "n C"]


Rule = Callable[[Key[Array, ""], Int[np.ndarray, " n"], Int[np.ndarray, " C"]], Weighting]


def checked(weighting: Weighting, examples: int, classes: int) -> Weighting:
    """Returns the weighting, as arrays, once it is known to be valid.

    Raises:
      BadInput: weight or offset has a wrong shape or holds a number that it may not.
    """
    weight, offset = map(np.asarray, weighting)
    if weight.shape != (examples,) or not (np.isfinite(weight) & (weight >= 0)).all() or not weight.any():
        raise BadInput(f"weighting.weight: must be {examples} finite numbers from 0 up, one for each example, and not all 0")
    if offset.shape not in ((classes,), (examples, classes)) or not np.isfinite(offset).all():
        raise BadInput(f"weighting.offset: must be {classes} finite numbers, one for each class, or {examples} rows of {classes} each")
    return Weighting(weight, offset)


def _no_offset(weight: Float[np.ndarray, " n"], counts: Int[np.ndarray, " C"]) -> Weighting:
    return Weighting(weight.astype(np.float32), np.zeros(len(counts), np.float32))


def plain(key: Key[Array, ""], y: Int[np.ndarray, " n"], counts: Int[np.ndarray, " C"]) -> Weighting:
    """Gives every example weight 1."""
    return _no_offset(np.ones(len(y)), counts)


def over_sampling(key: Key[Array, ""], y: Int[np.ndarray, " n"], counts: Int[np.ndarray, " C"]) -> Weighting:
    """Over-samples at random: examples of each class are drawn again until it is as large as the largest one.

    The weight of an example is the number of its copies in the resampled set, which gives the same problem as copying it.
    """
    missing = counts.max() - counts
    draws = uniform(key, len(counts) * int(missing.max())).reshape(len(counts), -1)
    order = np.argsort(y, kind="stable")
    start = np.cumsum(counts) - counts
    drawn = order[start[:, None] + np.minimum((draws * counts[:, None]).astype(int), counts[:, None] - 1)]
    used = np.arange(draws.shape[1]) < missing[:, None]
    return _no_offset(1.0 + np.bincount(drawn[used], minlength=len(y)), counts)


def under_sampling(key: Key[Array, ""], y: Int[np.ndarray, " n"], counts: Int[np.ndarray, " C"]) -> Weighting:
    """Under-samples at random: no class keeps more examples than the median class has."""
    return _no_offset((random_ranks(key, y) < max(int(np.median(counts)), 1)).astype(float), counts)


def inverse_frequency(power: float) -> Rule:
    """Returns the rule ω_j = n_{y_j}^−power up to scale.

    A power of 1 is cost-sensitive learning, where every class has the same total weight, ½ square-root sampling (Kang et al. 2020, section
    3), and 0 plain training.
    """

    return lambda key, y, counts: _no_offset((counts.max() / counts[y]) ** power, counts)


cost_sensitive = inverse_frequency(1.0)


def effective_number(beta: float) -> Rule:
    """Returns the rule ω_j = (1 − β) / (1 − β^n) up to scale, where n = n_{y_j}: class-balanced weights by the effective number of
    examples (Cui et al. 2019, equation 10)."""

    def draw(key, y, counts):
        weight = (1 - beta) / -np.expm1(counts * np.log(beta))
        return _no_offset((weight / weight.min())[y], counts)

    return draw


def logit_adjusted(tau: float) -> Rule:
    """Returns the rule a = τ log π, the logit-adjusted loss (Menon et al. 2021, equation 10); balanced softmax for τ = 1 (Ren et al.
    2020)."""

    def draw(key, y, counts):
        return Weighting(np.ones(len(y), np.float32), (tau * log_prior(counts)).astype(np.float32))

    return draw
