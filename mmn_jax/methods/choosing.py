"""Chooses a method's setting on folds of the training set or on a validation set, and fits it to the whole training set."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Key

from mmn_jax import defaults
from mmn_jax.errors import BadInput
from mmn_jax.evaluation.calibration import best_temperature
from mmn_jax.evaluation.metrics import mean_class_accuracy
from mmn_jax.methods.contract import Fitted, Method, Record, Tuned
from mmn_jax.methods.folds import Fold, Tasks, held_accuracy, held_labels, joined, make_tasks, training_folds
from mmn_jax.methods.progress import Piece, Step, Tell, unheard
from mmn_jax.methods.tasks import Task
from mmn_jax.methods.tuning import Setting, Trial, at_edge, best, ranking, search, why_ended
from mmn_jax.types import Knowledge, Normalised


def _record(trials: Sequence[Trial], number: int, logits: Sequence[Float[np.ndarray, "_ C"]], folds: Sequence[Fold], norm: float) -> Record:
    """Makes the Record of a choice; number: of the chosen trial. logits: of its setting, fold by fold."""
    scores, y = joined(logits), held_labels(folds)
    tried = [{**trial.setting, "val_accuracy": trial.accuracy} for trial in trials]
    return Record(trials[number].setting, mean_class_accuracy(scores, y), best_temperature(scores, y), tried, norm, [])


def _remembering(
    logits: Callable[[Any], list[Float[np.ndarray, "_ C"]]], folds: Sequence[Fold]
) -> tuple[Callable[[Any], float], list[list[Float[np.ndarray, "_ C"]]]]:
    """Returns the accuracy of logits as a function of their argument, and a list that holds the most accurate ones so far."""
    found: list[list[np.ndarray]] = []
    most = -np.inf

    def accuracy(which):
        nonlocal most
        scores = logits(which)
        reached = held_accuracy(scores, folds)
        if not found or ranking(reached) > most:
            found[:], most = [scores], ranking(reached)
        return reached

    return accuracy, found


def _by_fold(
    method: Method, parts: Sequence[Task], folds: Sequence[Fold], of: int, tell: Tell
) -> Callable[[int, Setting], list[Float[np.ndarray, "_ C"]]]:
    """Returns the logits of every fold's validation examples as a function of a setting's number and the setting.

    Args:
      method: what is fitted.
      parts: the folds' tasks.
      folds: training and validation examples that choose.
      of: the largest number of settings.
      tell: gets a step for each fold that begins, if there are several, and for each piece of work that the method reports.
    """

    def logits(number, setting):
        def at(*pieces):
            tell(Step(number, of, setting, pieces))

        scores = []
        for fold_number, (task, fold) in enumerate(zip(parts, folds, strict=True), 1):
            here = (Piece("fold", fold_number, len(folds)),) if len(folds) > 1 else ()
            at(*here)
            fitted = method.fit(task._replace(tell=partial(at, *here)), setting)
            scores.append(method.logits(fitted.arrays, fold.val.x))
        return scores

    return logits


def _fit_last(method: Method, task: Task, step: Step, tell: Tell) -> Fitted:
    """Fits the chosen setting to all training examples, and reports that.

    Args:
      method: what is fitted.
      task: of all training examples.
      step: of the choice, without the number of examples.
      tell: gets it, and a step for each piece of work that the method reports.
    """
    step = step._replace(examples=len(task.train.y))
    tell(step)
    return method.fit(task._replace(tell=lambda *pieces: tell(step._replace(pieces=pieces))), step.setting)


def by_search(method: Method, tasks: Tasks, folds: Sequence[Fold], whole: Fold, budget: int, tell: Tell = unheard) -> Tuned:
    """Chooses a setting by `tuning.search` along the method's axes, and fits it to the whole training set.

    With no folds, the setting is the one that the search starts from, and scores are not calibrated.

    Args:
      method: what is fitted.
      tasks: of the training sets of all folds and of the whole (`make_tasks`).
      folds: training and validation examples that choose.
      whole: all training examples.
      budget: the largest number of settings that are tried.
      tell: gets every step (`progress.py`).
    """
    final = tasks(whole.name)[1]
    if not folds:
        setting = {axis.name: axis.start for axis in method.axes}
        fitted = method.fit(final, setting)
        return Tuned(fitted.arrays, Record(setting, float("nan"), 1.0, [], fitted.gradient_norm, [], fitted.converged))
    rough = [tasks(fold.name)[0] for fold in folds]
    logits, numbers = _by_fold(method, rough, folds, budget, tell), itertools.count(1)
    evaluate, found = _remembering(lambda numbered: logits(*numbered), folds)

    def told(setting):
        number = next(numbers)
        accuracy = evaluate((number, setting))
        tell(Step(number, budget, setting, accuracy=accuracy))
        return accuracy

    trials = search(told, method.axes, budget)
    setting = best(trials).setting
    why = why_ended([trial.setting for trial in trials], method.axes, budget)
    fitted = _fit_last(method, final._replace(folds=tuple(rough)), Step(len(trials), budget, setting, ended=why), tell)
    record = _record(trials, trials.index(best(trials)), found[0], folds, fitted.gradient_norm)
    return Tuned(fitted.arrays, record._replace(at_edge=at_edge(setting, method.axes), converged=fitted.converged))


def choose_among(
    settings: Sequence[Setting],
    logits: Callable[[int], list[Float[np.ndarray, "_ C"]]],
    folds: Sequence[Fold],
    norm: float,
    tell: Tell = unheard,
) -> tuple[int, Record]:
    """Chooses the setting that is most accurate on the folds' validation examples.

    Args:
      settings: all of them are tried.
      logits: returns the logits of each fold's validation examples, from the number of a setting.
      folds: training and validation examples that choose.
      norm: the gradient norm of the final head.
      tell: gets a step for each setting that is evaluated.

    Returns:
      The number of the chosen setting, and the Record of the choice.
    """
    evaluate, found = _remembering(logits, folds)
    trials: list[Trial] = []
    for number, setting in enumerate(settings):
        trials.append(Trial(setting, evaluate(number)))
        tell(Step(len(trials), len(settings), setting, accuracy=trials[-1].accuracy))
    number = trials.index(best(trials))
    return number, _record(trials, number, found[0], folds, norm)


def by_grid(method: Method, tasks: Tasks, folds: Sequence[Fold], whole: Fold, budget: int, tell: Tell = unheard) -> Tuned:
    """Chooses among all combinations of the values of the method's axes, and fits the chosen one to the whole training set.

    The arguments are those of `by_search`; the budget is ignored. Heads are solved to the final tolerance.
    """
    settings = [
        dict(zip([axis.name for axis in method.axes], point, strict=True))
        for point in itertools.product(*(axis.values for axis in method.axes))
    ]
    logits = _by_fold(method, [tasks(fold.name)[1] for fold in folds], folds, len(settings), tell)
    number, record = choose_among(settings, lambda number: logits(number + 1, settings[number]), folds, 0.0, tell)
    fitted = _fit_last(method, tasks(whole.name)[1], Step(len(settings), len(settings), settings[number]), tell)
    return Tuned(fitted.arrays, record._replace(gradient_norm=fitted.gradient_norm, converged=fitted.converged))


def tune(method: Method, tasks: Tasks, folds: Sequence[Fold], whole: Fold, budget: int = defaults.BUDGET, tell: Tell = unheard) -> Tuned:
    """Chooses a method's hyperparameters on folds and fits it to the whole training set.

    Args:
      method: what is fitted.
      tasks: of the training sets of all folds and of the whole (`make_tasks`).
      folds: training and validation examples that choose; none where there is nothing to choose by.
      whole: all training examples.
      budget: the largest number of settings that are tried.
      tell: gets every step (`progress.py`).
    """
    return (method.choose or by_search)(method, tasks, folds, whole, budget, tell)


class Setup(NamedTuple):
    """What a method is chosen on and fitted to.

    tasks: of the training sets. folds: training and validation examples that choose; none where every class has a single example. whole:
    all training examples.
    """

    tasks: Tasks
    folds: tuple[Fold, ...]
    whole: Fold


def set_up(
    key: Key[Array, ""],
    train: Normalised,
    val: Normalised | None = None,
    *,
    folds: int = defaults.FOLDS,
    tol: float = defaults.TOL,
    final_tol: float = defaults.FINAL_TOL,
    knowledge: Knowledge = Knowledge(),  # noqa: B008 - a NamedTuple cannot change
) -> Setup:
    """Makes what `tune` needs of a training set; the arguments are those of `fit_method`."""
    whole = Fold("all", train, val)
    parts = training_folds(whole.name, train, key, folds) if val is None else (whole,)
    return Setup(make_tasks((whole, *parts), key, tol, final_tol, knowledge), parts, whole)


def fit_method(
    method: Method,
    key: Key[Array, ""],
    train: Normalised,
    val: Normalised | None = None,
    *,
    folds: int = defaults.FOLDS,
    budget: int = defaults.BUDGET,
    tol: float = defaults.TOL,
    final_tol: float = defaults.FINAL_TOL,
    knowledge: Knowledge = Knowledge(),  # noqa: B008 - a NamedTuple cannot change
    tell: Tell = unheard,
) -> Tuned:
    """Fits a method, its hyperparameters chosen on a validation set or on folds of the training set.

    Args:
      method: what is fitted.
      key: the root of the streams that are drawn from.
      train: training examples, with at least one of each class 0 to C − 1.
      val: validation examples; None where folds of the training set choose.
      folds: the number of folds.
      budget: the largest number of settings that are tried.
      tol: the gradient norm to which heads are solved while choosing.
      final_tol: that of the final head.
      knowledge: what is known of the classes beside the examples; its unlabelled features are normalised, too.
      tell: gets every step (`progress.py`).

    Raises:
      BadInput: a head takes more memory than there is, or the method needs what isn't known.
    """
    if not method.applies(knowledge):
        raise BadInput(f"knowledge: the method needs {' and '.join(sorted(method.needs))}")
    setup = set_up(key, train, val, folds=folds, tol=tol, final_tol=final_tol, knowledge=knowledge)
    return tune(method, *setup, budget=budget, tell=tell)
