"""The contract of a method: what it learns from a training set, and the hyperparameters that validation examples choose.

A `Method` is a pair of pure functions: fit(task, setting) learns arrays from a `Task`, logits(arrays, x) scores normalised
features. Nearly all of them are one linear head {"theta": [C, d+1]}.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, PRNGKeyArray

from mmn_jax import defaults
from mmn_jax.evaluation.calibration import best_temperature
from mmn_jax.evaluation.metrics import mean_class_accuracy
from mmn_jax.linear.rows import predict_logits
from mmn_jax.linear.weighting import Rule
from mmn_jax.methods.folds import Fold, Tasks, held_accuracy, held_labels, make_tasks, training_folds
from mmn_jax.methods.tasks import Head, Scaling, Task, standardised, unscaled
from mmn_jax.methods.tuning import Axis, Setting, Trial, at_edge, best, ranking, search
from mmn_jax.types import Examples

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


class Record(NamedTuple):
    """How a method's setting was chosen.

    setting: the chosen one. val_accuracy, temperature: its mean per-class accuracy in percent on validation examples, and what divides
    its scores to calibrate them there. trials: every setting that was tried, with its val_accuracy. gradient_norm: that of the final
    head. at_edge: hyperparameters whose chosen value is the first or last of its grid.
    """

    setting: Setting
    val_accuracy: float
    temperature: float
    trials: list[dict[str, Any]]
    gradient_norm: float
    at_edge: list[str]


class Tuned(NamedTuple):
    """A method's arrays, fitted to all training examples, and how its setting was chosen."""

    arrays: Arrays
    record: Record


def chosen(trials: Sequence[Trial], number: int, logits: Sequence[Float[np.ndarray, "_ C"]], folds: Sequence[Fold], norm: float) -> Record:
    """Makes the Record of a choice among trials. logits: of the chosen setting, fold by fold."""
    scores, y = np.concatenate(logits), held_labels(folds)
    tried = [{**trial.setting, "val_accuracy": trial.accuracy} for trial in trials]
    return Record(trials[number].setting, mean_class_accuracy(scores, y), best_temperature(scores, y), tried, norm, [])


def by_search(method: "Method", tasks: Tasks, folds: Sequence[Fold], whole: Fold, budget: int) -> Tuned:
    """Chooses a setting by `search` along the method's axes, on what the folds hold out, and fits it to the whole training set.

    Where nothing is held out to choose by, it is the setting that the search starts from, uncalibrated.
    """
    final = tasks(whole.name)[1]
    if not folds:
        setting = {axis.name: axis.start for axis in method.axes}
        fitted = method.fit(final, setting)
        return Tuned(fitted.arrays, Record(setting, float("nan"), 1.0, [], fitted.gradient_norm, []))
    rough = [tasks(fold.name)[0] for fold in folds]
    found: list[tuple[float, list[np.ndarray]]] = []  # the best accuracy so far, and its logits

    def evaluate(setting):
        logits = [method.logits(method.fit(task, setting).arrays, fold.val.x) for task, fold in zip(rough, folds, strict=True)]
        accuracy = held_accuracy(logits, folds)
        if not found or ranking(accuracy) > ranking(found[0][0]):
            found[:] = [(accuracy, logits)]
        return accuracy

    trials = search(evaluate, method.axes, budget)
    setting = best(trials).setting
    fitted = method.fit(final._replace(folds=tuple(rough)), setting)
    record = chosen(trials, trials.index(best(trials)), found[0][1], folds, fitted.gradient_norm)
    return Tuned(fitted.arrays, record._replace(at_edge=at_edge(setting, method.axes)))


def choose_among(
    settings: Sequence[Setting], logits: Callable[[int], list[Float[np.ndarray, "_ C"]]], folds: Sequence[Fold], norm: float
) -> tuple[int, Record]:
    """Chooses the setting that is most accurate on the folds' validation examples.

    Args:
      settings: all of them are tried.
      logits: number of a setting → the logits of each fold's validation examples.
      folds: what chooses.
      norm: the gradient norm of the final head.

    Returns:
      The number of the chosen setting, and the Record of the choice.
    """
    trials = [Trial(setting, held_accuracy(logits(number), folds)) for number, setting in enumerate(settings)]
    number = trials.index(best(trials))
    return number, chosen(trials, number, logits(number), folds, norm)


def by_grid(method: "Method", tasks: Tasks, folds: Sequence[Fold], whole: Fold, budget: int) -> Tuned:
    """Chooses among all combinations of the values of the method's axes, whatever the budget; heads are solved to the final tolerance."""
    settings = [
        dict(zip([axis.name for axis in method.axes], point, strict=True))
        for point in itertools.product(*(axis.values for axis in method.axes))
    ]
    parts = [tasks(fold.name)[1] for fold in folds]

    def logits(number):
        return [method.logits(method.fit(task, settings[number]).arrays, fold.val.x) for task, fold in zip(parts, folds, strict=True)]

    number, record = choose_among(settings, logits, folds, 0.0)
    fitted = method.fit(tasks(whole.name)[1], settings[number])
    return Tuned(fitted.arrays, record._replace(gradient_norm=fitted.gradient_norm))


class Method(NamedTuple):
    """A method of classification: a pair of pure functions, and how its hyperparameters are chosen.

    kind: "paper" (its baselines), "rival" or "ours". axes: the hyperparameters, in the order in which they are searched. fit(task,
    setting) learns arrays from a Task. logits(arrays, x) scores normalised features. choose: by default `by_search`.
    """

    kind: str
    axes: tuple[Axis, ...]
    fit: Callable[[Task, Setting], Fitted]
    logits: Callable[[Arrays, np.ndarray], np.ndarray] = linear_logits
    choose: Callable[["Method", Tasks, Sequence[Fold], Fold, int], Tuned] = by_search


def tune(method: Method, tasks: Tasks, folds: Sequence[Fold], whole: Fold, budget: int = defaults.BUDGET) -> Tuned:
    """Chooses a method's hyperparameters on folds and fits it to the whole training set.

    Args:
      method: what is fitted.
      tasks: of the training sets of all folds and of the whole (`make_tasks`).
      folds: training and validation examples that choose; none where there is nothing to choose by.
      whole: all training examples.
      budget: settings that are tried at most.
    """
    return method.choose(method, tasks, folds, whole, budget)


def fit_method(
    method: Method,
    key: PRNGKeyArray,
    train: Examples,
    val: Examples | None = None,
    *,
    folds: int = defaults.FOLDS,
    budget: int = defaults.BUDGET,
    tol: float = defaults.TOL,
    final_tol: float = defaults.FINAL_TOL,
) -> Tuned:
    """Fits a method to normalised examples, its hyperparameters chosen on a validation set or on folds of the training set.

    Args:
      method: what is fitted.
      key: the root of the streams that are drawn from.
      train: normalised training examples, each class 0 to C − 1 with at least one.
      val: normalised validation examples; None: folds of the training set choose.
      folds: how many there are.
      budget: settings that are tried at most.
      tol: the gradient norm to which heads are solved while choosing.
      final_tol: that of the final head.
    """
    whole = Fold("all", train, val)
    parts = training_folds(whole.name, train, key, folds) if val is None else (whole,)
    return tune(method, make_tasks((whole, *parts), key, tol, final_tol), parts, whole, budget)


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
