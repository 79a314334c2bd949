"""Searches a method's hyperparameters within a budget of settings that is the same for every method.

`search` goes along one hyperparameter after the other: first over its values, then to the neighbours of the best one, then to values
halfway between these; it stops after `budget` settings. A setting is evaluated by the mean per-class accuracy of its predictions for
examples that it was not fitted to: the validation set, or every training example by the fold that holds it out.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

Setting = dict[str, Any]


class Axis(NamedTuple):
    """One hyperparameter.

    values: are tried in this order. start: the value that the search starts from. between(a, b): returns a value between two neighbours,
    None where they are close enough. matters(setting): whether it has an effect beside the other hyperparameters; otherwise its value in
    the setting is None.
    """

    name: str
    values: tuple
    start: Any
    between: Callable[[Any, Any], Any] = lambda a, b: None
    matters: Callable[[Setting], bool] = lambda setting: True
    patience: int | None = None


class Trial(NamedTuple):
    """One setting and its accuracy on validation examples, in percent."""

    setting: Setting
    accuracy: float


def _neighbours(axis: Axis, value: Any) -> tuple:
    """Returns the values around one of the axis, and itself."""
    if value not in axis.values:  # a hyperparameter that has no effect here
        return ()
    i = axis.values.index(value)
    return axis.values[max(i - 1, 0) : i + 2]


def _in_use(axis: Axis, setting: Setting) -> Any:
    """Returns the axis's value in a setting: None where it has no effect, its start where it has one again."""
    if not axis.matters(setting):
        return None
    value = setting[axis.name]
    return value if value in axis.values else axis.start


def _finer(axis: Axis, value: Any) -> Axis:
    """Returns the axis with the values halfway between `value` and its neighbours added."""
    middles = {axis.between(a, b) for a, b in itertools.pairwise(_neighbours(axis, value))} - {None}
    if not middles:
        return axis
    return axis._replace(values=tuple(sorted({*axis.values, *middles}, reverse=axis.values[0] > axis.values[-1])))


def search(evaluate: Callable[[Setting], float], axes: Iterable[Axis], budget: int) -> list[Trial]:
    """Searches along axes for the most accurate setting.

    Args:
      evaluate: returns the accuracy of a setting.
      axes: the hyperparameters, in the order in which they are searched.
      budget: the largest number of settings that are tried.

    Returns:
      The different settings in the order in which they were tried; fewer than `budget` where the neighbours on every axis are close enough.
    """
    axes = list(axes)
    trials: dict[tuple, Trial] = {}

    def attempt(setting):
        setting = {axis.name: _in_use(axis, setting) for axis in axes}
        key = tuple(setting.values())
        if key not in trials and len(trials) < budget:
            trials[key] = Trial(setting, evaluate(setting))
        return ranking(trials[key].accuracy) if key in trials else -math.inf

    def along(axis, setting, values):
        most, worse = -math.inf, 0
        for value in values:
            reached = attempt(setting | {axis.name: value})
            most, worse = max(most, reached), worse + 1 if reached < most else 0
            if worse == axis.patience:
                break

    def sweep(setting, values):
        for axis in axes:
            along(axis, setting, values(axis, setting[axis.name]))
            setting = best(trials.values()).setting
        return setting

    setting = {axis.name: axis.start for axis in axes}
    attempt(setting)
    setting = sweep(setting, lambda axis, value: axis.values)
    while len(trials) < budget:
        before = len(trials)
        setting = sweep(setting, _neighbours)
        if len(trials) > before:
            continue
        finer = [_finer(axis, setting[axis.name]) for axis in axes]
        if finer == axes:
            break
        axes = finer
    return list(trials.values())


def why_ended(tried: Sequence[Setting], axes: Iterable[Axis], budget: int) -> str:
    """Says why `search` tried fewer settings than its budget; empty if it tried as many.

    Args:
      tried: the settings that it tried.
      axes: the hyperparameters.
      budget: the largest number of settings.
    """
    if len(tried) >= budget:
        return ""
    reasons = []
    for axis in axes:
        left = [value for value in axis.values if value not in {setting[axis.name] for setting in tried}]
        if left and axis.patience:
            values = ", ".join(f"{value:g}" for value in left)
            reasons.append(f"{axis.name} {values} left out, as the {axis.patience} values before were less accurate")
    return " and ".join([*reasons, "every neighbour of the best one was tried"])


def ranking(accuracy: float) -> float:
    """Returns the accuracy without its rounding, so that equal ones are a tie."""
    return round(accuracy, 9)


def best(trials: Iterable[Trial]) -> Trial:
    """Returns the most accurate trial; a tie goes to the one tried first, the simpler."""
    return max(trials, key=lambda trial: ranking(trial.accuracy))


def at_edge(setting: Setting, axes: Iterable[Axis]) -> list[str]:
    """Returns the hyperparameters whose chosen value is the first or last of an ordered grid: a wider grid might give another."""
    grids = {axis.name: [value for value in axis.values if value is not None] for axis in axes}
    return [name for name, grid in grids.items() if len(grid) > 2 and setting[name] in (grid[0], grid[-1])]
