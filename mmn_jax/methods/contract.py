"""The contract of a method: what it learns from a training set, and the knobs that validation examples choose.

A `Method` is a pair of pure functions: fit(task, setting) learns arrays from a `Task`, logits(arrays, x) scores normalised
features. Nearly all of them are one linear head {"theta": [C, d+1]}.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmn_jax.evaluation.calibration import best_temperature
from mmn_jax.evaluation.metrics import mean_class_accuracy
from mmn_jax.linear.rows import predict_logits
from mmn_jax.linear.weighting import Rule
from mmn_jax.methods.folds import Fold, held_accuracy, held_labels
from mmn_jax.methods.tasks import Head, Scaling, Task, standardised, unscaled
from mmn_jax.methods.tuning import Axis, Setting, Trial, at_edge, best, search

Arrays = dict[str, Any]


class Fitted(NamedTuple):
    """What a fit gives: the arrays that `logits` needs, and the gradient norm its head reached (0 for a closed form)."""

    arrays: Arrays
    gradient_norm: float = 0.0


def linear(theta: np.ndarray, head: Head | Fitted | None = None) -> Fitted:
    """The rows theta [C, d+1] as a method's result. head: what they were made from, whose gradient norm they keep; None: a closed form."""
    return Fitted({"theta": theta.astype(np.float32)}, 0.0 if head is None else head.gradient_norm)


def linear_logits(arrays: Arrays, x: np.ndarray) -> np.ndarray:
    """[n, C] of a linear head."""
    return predict_logits(arrays["theta"], x)


class Tuned(NamedTuple):
    """A method's arrays for all training examples, and the record of how they were chosen: `chosen_record` and gradient_norm."""

    arrays: Arrays
    record: dict[str, Any]


def chosen_record(setting: Setting, logits: Sequence[np.ndarray], folds: Sequence[Fold], trials: Sequence[Trial]) -> dict[str, Any]:
    """What a record keeps of a choice: the setting, its accuracy and temperature on validation examples, and all trials."""
    scores, y = np.concatenate(logits), held_labels(folds)
    return {
        "setting": setting,
        "val_accuracy": mean_class_accuracy(scores, y),
        "temperature": best_temperature(scores, y),
        "trials": [{**trial.setting, "val_accuracy": trial.accuracy} for trial in trials],
    }


class Method(NamedTuple):
    """kind: "paper" (its baselines), "rival" or "ours". axes: the knobs, in the order they are searched."""

    kind: str
    axes: tuple[Axis, ...]
    fit: Callable[[Task, Setting], Fitted]
    logits: Callable[[Arrays, np.ndarray], np.ndarray] = linear_logits


def tune(method: Method, tasks: Sequence[Task], folds: Sequence[Fold], final: Task, budget: int) -> Tuned:
    """The setting that `search` finds along the method's axes by what the folds hold out of the tasks, fitted to the final task."""

    def logits(setting):
        return [method.logits(method.fit(task, setting).arrays, fold.val.x) for task, fold in zip(tasks, folds, strict=True)]

    trials = search(lambda setting: held_accuracy(logits(setting), folds), method.axes, budget)
    setting = best(trials).setting
    whole = method.fit(final._replace(folds=tuple(tasks)), setting)
    record = chosen_record(setting, logits(setting), folds, trials)
    return Tuned(whole.arrays, record | {"gradient_norm": whole.gradient_norm, "at_edge": at_edge(setting, method.axes)})


def start(method: Method, final: Task) -> Tuned:
    """The setting that `search` starts from, fitted to the final task, where nothing is held out to choose by; no temperature."""
    setting = {axis.name: axis.start for axis in method.axes}
    whole = method.fit(final, setting)
    record = {"setting": setting, "val_accuracy": float("nan"), "temperature": 1.0, "trials": [], "at_edge": []}
    return Tuned(whole.arrays, record | {"gradient_norm": whole.gradient_norm})


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


def head_axes(grid: tuple[float, ...]) -> tuple[Axis, Axis]:
    """The knobs of every solved head: its ridge and what the ridge measures."""
    return l2_axis(grid), SCALING


def scaling(setting: Setting) -> Scaling:
    """The one of the two that a setting of SCALING names."""
    return standardised if setting["standardised"] else unscaled


def solved(rule_of: Callable[..., Rule], *knobs: str) -> Callable[[Task, Setting], Fitted]:
    """fit(task, setting) of the method that solves a head under rule_of(*knobs)."""

    def fit(task, setting):
        head = task.head(rule_of(*(setting[knob] for knob in knobs)), setting["l2"], scaling(setting))
        return linear(head.theta, head)

    return fit
