"""What methods share that solve one weighted head: the axes of its hyperparameters, and its fit."""

from collections.abc import Callable

import numpy as np

from mmn_jax.linear.weighting import Rule
from mmn_jax.methods.contract import Fitted, linear
from mmn_jax.methods.tasks import Scaling, Task, standardised, unscaled
from mmn_jax.methods.tuning import Axis, Setting


def by_factor(a: float, b: float) -> float | None:
    """Returns the geometric mean of values more than a factor of 4 apart, else None: grids of decades are refined to half-decades."""
    return float(f"{np.sqrt(a * b):.3g}") if max(a, b) > 4 * min(a, b) else None


def by_step(a: float, b: float) -> float | None:
    """Returns the mean of values more than 0.15 apart, else None."""
    return (a + b) / 2 if abs(a - b) > 0.15 else None


def l2_axis(grid: tuple[float, ...]) -> Axis:
    """Returns the axis of the ridge ℓ, which starts at the strongest; heads under the weakest ones take longest to solve."""
    grid = tuple(sorted(grid, reverse=True))
    return Axis("l2", grid, grid[0], by_factor, patience=2)


def tau_axis(*values: float, start: float = 1.0) -> Axis:
    """Returns the axis of the strength τ of a correction by class counts."""
    return Axis("tau", values, start, by_step)


SCALING = Axis("standardised", (False, True), False)


def head_axes(grid: tuple[float, ...]) -> tuple[Axis, Axis]:
    """Returns the axes that every weighted head has: its ridge, and the scaling of the features under it."""
    return l2_axis(grid), SCALING


def scaling(setting: Setting) -> Scaling:
    """Returns the scaling that a setting of the axis SCALING stands for."""
    return standardised if setting["standardised"] else unscaled


def solved(rule_of: Callable[..., Rule], *names: str) -> Callable[[Task, Setting], Fitted]:
    """Returns the `Method.fit` of a head that is solved under a rule.

    Args:
      rule_of: returns the rule, from the values of the hyperparameters `names`.
      names: of hyperparameters in a setting.
    """

    def fit(task, setting):
        head = task.head(rule_of(*(setting[name] for name in names)), setting["l2"], scaling(setting))
        return linear(head.theta, head)

    return fit
