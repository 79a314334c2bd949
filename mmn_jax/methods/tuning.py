"""How a method's knobs are chosen: on validation examples, with the same limit on the settings that a method tries.

`search` goes along one knob after the other, first over all its values, then to the best one's
neighbours, then to values halfway between; it stops after `budget` settings. A setting is judged
by the mean per-class accuracy of what it predicts for examples that it was not fitted to: the
validation set, or every training example by the fold that left it out.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

Setting = dict[str, Any]


class Axis(NamedTuple):
    """One knob: the values to go over, the one to start from, between(a, b), what lies between two of them, None where they are close
    enough, and matters(setting): where the other knobs leave it nothing to do, it is None in a setting."""

    name: str
    values: tuple
    start: Any
    between: Callable[[Any, Any], Any] = lambda a, b: None
    matters: Callable[[Setting], bool] = lambda setting: True


class Trial(NamedTuple):
    """One setting and its accuracy on validation examples, in percent."""

    setting: Setting
    accuracy: float


def _neighbours(axis, value):
    if value not in axis.values:  # a knob that doesn't matter here
        return ()
    i = axis.values.index(value)
    return axis.values[max(i - 1, 0) : i + 2]


def _in_use(axis, setting):
    """The axis's value in a setting: None where it doesn't matter, what it starts from where it matters again."""
    if not axis.matters(setting):
        return None
    value = setting[axis.name]
    return value if value in axis.values else axis.start


def _finer(axis, value):
    """The axis with what lies halfway between `value` and its neighbours."""
    middles = {axis.between(a, b) for a, b in itertools.pairwise(_neighbours(axis, value))} - {None}
    if not middles:
        return axis
    return axis._replace(values=tuple(sorted({*axis.values, *middles}, reverse=axis.values[0] > axis.values[-1])))


def search(evaluate: Callable[[Setting], float], axes: Iterable[Axis], budget: int) -> list[Trial]:
    """At most `budget` different settings in the order tried; fewer where every knob's neighbours are close enough."""
    axes = list(axes)
    trials: dict[tuple, Trial] = {}

    def look(setting):
        setting = {axis.name: _in_use(axis, setting) for axis in axes}
        key = tuple(setting.values())
        if key not in trials and len(trials) < budget:
            trials[key] = Trial(setting, evaluate(setting))

    def sweep(setting, values):
        for axis in axes:
            for value in values(axis, setting[axis.name]):
                look(setting | {axis.name: value})
            setting = best(trials.values()).setting
        return setting

    setting = {axis.name: axis.start for axis in axes}
    look(setting)
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


def ranking(accuracy: float) -> float:
    """Returns the accuracy without its rounding, so that equal ones are a tie."""
    return round(accuracy, 9)


def best(trials: Iterable[Trial]) -> Trial:
    """Returns the most accurate trial; a tie goes to the one tried first, the simpler."""
    return max(trials, key=lambda trial: ranking(trial.accuracy))


def at_edge(setting: Setting, axes: Iterable[Axis]) -> list[str]:
    """The knobs with an ordered grid whose chosen value is its first or last: a wider grid might have given another."""
    grids = {axis.name: [value for value in axis.values if value is not None] for axis in axes}
    return [name for name, grid in grids.items() if len(grid) > 2 and setting[name] in (grid[0], grid[-1])]
