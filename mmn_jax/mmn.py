"""`mmn`, what a user gets: rows under the prior that the many-shot classes teach, moved towards their Bayesian row.

    θ̂ = (1 − α) · θ + α · s · r

θ are the logit-adjusted rows of a head whose ridge is the row prior N(0, A⁻¹BA⁻¹), r the Bayesian rows of the same
model of classes, s the ratio of their scales. The model (`classes.py`) is learned from how classes with many
examples scatter; it moves a row by as much as its class's examples leave open.
"""

import numpy as np

from mmn_jax import weighting
from mmn_jax.classes import Shrinkage, bayesian_rows, class_means, row_scale
from mmn_jax.methods import Fitted, Method, by_step, l2_axis, linear, logit_adjusted, tau_axis
from mmn_jax.tuning import Axis, RowPrior, Setting, Task, unscaled


def mix_rows(theta: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """[C, d+1] (1 − share) · theta + share · other, both centred over classes, other at the scale of theta."""
    theta, other = theta - theta.mean(0), other - other.mean(0)
    return (1 - share) * theta + share * row_scale(theta) / max(row_scale(other), 1e-12) * other


def fit(task: Task, setting: Setting) -> Fitted:
    """The moved rows at a setting of l2, shrinkage, alpha and tau."""
    shrinkage = Shrinkage(setting["shrinkage"], setting["shrinkage"])
    scaling = unscaled if setting["shrinkage"] == 1 else RowPrior(shrinkage)  # fully shrunk, the prior is the plain ridge
    head = task.head("plain", weighting.plain, setting["l2"], scaling)
    theta = logit_adjusted(head.theta, setting["tau"], task.counts)
    if setting["alpha"] > 0:
        means = class_means(task.train.x, task.train.y, len(task.counts))
        theta = mix_rows(theta, bayesian_rows(task.model(shrinkage), means, task.counts), setting["alpha"])
    return linear(theta, head)


def method(grid: tuple[float, ...]) -> Method:
    """mmn with its ridge searched over every other value of `grid` first, then between them.

    The search starts at the identity: a shrinkage of 1 is the plain ridge, an alpha of 0 no Bayesian row, and with both
    it is logit adjustment. It moves away where validation examples say so.
    """
    ridge = l2_axis(tuple(sorted(grid, reverse=True)[::2]))
    shrinkage = Axis("shrinkage", (1.0, 0.6, 0.3), 1.0)
    alpha = Axis("alpha", (0.0, 0.2, 0.4), 0.0, by_step)
    return Method("ours", (ridge, shrinkage, alpha, tau_axis(0.75, 1.0, 1.25, 1.5, start=1.25)), fit)
