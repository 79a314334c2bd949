"""The contract of a method: what it learns from a training set, and the knobs that validation examples choose.

A `Method` is a pair of pure functions: fit(task, setting) learns arrays from a `Task`, logits(arrays, x)
scores normalised features. Nearly all of them are one linear head {"theta": [C, d+1]}.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mmn_jax.evaluate import predict_logits
from mmn_jax.tuning import Axis, Head, Scaling, Setting, Task, standardised, unscaled
from mmn_jax.weighting import log_prior

Arrays = dict[str, Any]


class Fitted(NamedTuple):
    """What a fit gives: the arrays that `logits` needs, and the gradient norm its head reached (0 for a closed form)."""

    arrays: Arrays
    gradient_norm: float = 0.0


def linear(theta: np.ndarray, head: Head | None = None) -> Fitted:
    """The rows theta [C, d+1] as a method's result, made from a solved head or in closed form."""
    return Fitted({"theta": theta.astype(np.float32)}, 0.0 if head is None else head.gradient_norm)


def linear_logits(arrays: Arrays, x: np.ndarray) -> np.ndarray:
    """[n, C] of a linear head."""
    return predict_logits(arrays["theta"], x)


class Method(NamedTuple):
    """kind: "paper" (its baselines), "rival" or "ours". axes: the knobs, in the order they are searched."""

    kind: str
    axes: tuple[Axis, ...]
    fit: Callable[[Task, Setting], Fitted]
    logits: Callable[[Arrays, np.ndarray], np.ndarray] = linear_logits


def logit_adjusted(theta: np.ndarray, tau: float, counts: np.ndarray) -> np.ndarray:
    """Rows of a plain head after post-hoc logit adjustment, b − τ log π (Menon et al. 2021, equation 9)."""
    adjusted = theta.copy()
    adjusted[:, -1] -= tau * log_prior(counts)
    return adjusted


def by_factor(a: float, b: float) -> float | None:
    """The geometric mean of values more than a factor of 4 apart: grids of decades are refined once, to half-decades."""
    return float(f"{np.sqrt(a * b):.3g}") if max(a, b) > 4 * min(a, b) else None


def by_step(a: float, b: float) -> float | None:
    """The middle of values more than 0.15 apart."""
    return (a + b) / 2 if abs(a - b) > 0.15 else None


def l2_axis(grid: tuple[float, ...]) -> Axis:
    """The ridge ℓ, from the strongest on."""
    grid = tuple(sorted(grid, reverse=True))
    return Axis("l2", grid, grid[0], by_factor)


def tau_axis(*values: float, start: float = 1.0) -> Axis:
    """The strength τ of a correction by class counts."""
    return Axis("tau", values, start, by_step)


SCALING = Axis("standardised", (False, True), False)


def scaling(setting: Setting) -> Scaling:
    """The one of the two that a setting of SCALING names."""
    return standardised if setting["standardised"] else unscaled
