"""Chooses a method's setting on folds of the training set or on a validation set, and fits it to the whole training set."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Key

from mmn_jax import defaults
from mmn_jax.errors import BadInput, Say, silent
from mmn_jax.evaluation.calibration import best_temperature
from mmn_jax.evaluation.metrics import mean_class_accuracy
from mmn_jax.methods.contract import Method, Record, Tuned
from mmn_jax.methods.folds import Fold, Tasks, held_accuracy, held_labels, make_tasks, training_folds
from mmn_jax.methods.tasks import Task
from mmn_jax.methods.tuning import Setting, Trial, at_edge, best, ranking, search
from mmn_jax.types import Knowledge, Normalised


def _record(trials: Sequence[Trial], number: int, logits: Sequence[Float[np.ndarray, "_ C"]], folds: Sequence[Fold], norm: float) -> Record:
    """Makes the Record of a choice; number: of the chosen trial. logits: of its setting, fold by fold."""
    scores, y = np.concatenate(logits), held_labels(folds)
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


def _words(setting: Setting) -> str:
    """Returns a setting as text, without the hyperparameters that have no effect in it."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in setting.items() if value is not None
    )


def _result(number: int, trial: Trial) -> str:
    """Returns the line about a setting that was tried; number: how many have been."""
    return f"setting {number} ({_words(trial.setting)}): {trial.accuracy:.1f}% mean per-class accuracy"


def _last(setting: Setting, tried: int, whole: Fold) -> str:
    """Returns the line about the chosen one of the settings that were tried, which is now fitted to all training examples."""
    return f"the best of {tried} ({_words(setting)}) is fitted to all {len(whole.train.y)} examples"


def _by_fold(method: Method, parts: Sequence[Task], folds: Sequence[Fold], say: Say) -> Callable[[Setting], list[Float[np.ndarray, "_ C"]]]:
    """Returns the logits of every fold's validation examples as a function of a setting.

    Args:
      method: what is fitted.
      parts: the folds' tasks.
      folds: training and validation examples that choose.
      say: gets a line for each fold of the first setting, which takes longest: with it, a method solves what its settings share.
    """
    first = iter(range(1, len(folds) + 1) if len(folds) > 1 else ())

    def logits(setting):
        scores = []
        for task, fold in zip(parts, folds, strict=True):
            scores.append(method.logits(method.fit(task, setting).arrays, fold.val.x))
            if number := next(first, None):
                say(f"setting 1, fold {number} of {len(folds)}")
        return scores

    return logits


def by_search(method: Method, tasks: Tasks, folds: Sequence[Fold], whole: Fold, budget: int, say: Say = silent) -> Tuned:
    """Chooses a setting by `tuning.search` along the method's axes, and fits it to the whole training set.

    With no folds, the setting is the one that the search starts from, and scores are not calibrated.

    Args:
      method: what is fitted.
      tasks: of the training sets of all folds and of the whole (`make_tasks`).
      folds: training and validation examples that choose.
      whole: all training examples.
      budget: the largest number of settings that are tried.
      say: gets a line for each setting that is tried.
    """
    final = tasks(whole.name)[1]
    if not folds:
        setting = {axis.name: axis.start for axis in method.axes}
        fitted = method.fit(final, setting)
        return Tuned(fitted.arrays, Record(setting, float("nan"), 1.0, [], fitted.gradient_norm, [], fitted.converged))
    rough = [tasks(fold.name)[0] for fold in folds]
    evaluate, found = _remembering(_by_fold(method, rough, folds, say), folds)
    tried = itertools.count(1)

    def told(setting):
        trial = Trial(setting, evaluate(setting))
        say(_result(next(tried), trial))
        return trial.accuracy

    trials = search(told, method.axes, budget)
    setting = best(trials).setting
    say(_last(setting, len(trials), whole))
    fitted = method.fit(final._replace(folds=tuple(rough)), setting)
    record = _record(trials, trials.index(best(trials)), found[0], folds, fitted.gradient_norm)
    return Tuned(fitted.arrays, record._replace(at_edge=at_edge(setting, method.axes), converged=fitted.converged))


def choose_among(
    settings: Sequence[Setting],
    logits: Callable[[int], list[Float[np.ndarray, "_ C"]]],
    folds: Sequence[Fold],
    norm: float,
    say: Say = silent,
) -> tuple[int, Record]:
    """Chooses the setting that is most accurate on the folds' validation examples.

    Args:
      settings: all of them are tried.
      logits: returns the logits of each fold's validation examples, from the number of a setting.
      folds: training and validation examples that choose.
      norm: the gradient norm of the final head.
      say: gets a line for each setting.

    Returns:
      The number of the chosen setting, and the Record of the choice.
    """
    evaluate, found = _remembering(logits, folds)
    trials: list[Trial] = []
    for number, setting in enumerate(settings):
        trials.append(Trial(setting, evaluate(number)))
        say(_result(len(trials), trials[-1]))
    number = trials.index(best(trials))
    return number, _record(trials, number, found[0], folds, norm)


def by_grid(method: Method, tasks: Tasks, folds: Sequence[Fold], whole: Fold, budget: int, say: Say = silent) -> Tuned:
    """Chooses among all combinations of the values of the method's axes, and fits the chosen one to the whole training set.

    The arguments are those of `by_search`; the budget is ignored. Heads are solved to the final tolerance.
    """
    settings = [
        dict(zip([axis.name for axis in method.axes], point, strict=True))
        for point in itertools.product(*(axis.values for axis in method.axes))
    ]
    logits = _by_fold(method, [tasks(fold.name)[1] for fold in folds], folds, say)
    number, record = choose_among(settings, lambda number: logits(settings[number]), folds, 0.0, say)
    say(_last(settings[number], len(settings), whole))
    fitted = method.fit(tasks(whole.name)[1], settings[number])
    return Tuned(fitted.arrays, record._replace(gradient_norm=fitted.gradient_norm, converged=fitted.converged))


def tune(method: Method, tasks: Tasks, folds: Sequence[Fold], whole: Fold, budget: int = defaults.BUDGET, say: Say = silent) -> Tuned:
    """Chooses a method's hyperparameters on folds and fits it to the whole training set.

    Args:
      method: what is fitted.
      tasks: of the training sets of all folds and of the whole (`make_tasks`).
      folds: training and validation examples that choose; none where there is nothing to choose by.
      whole: all training examples.
      budget: the largest number of settings that are tried.
      say: gets a line for each setting that is tried.
    """
    return (method.choose or by_search)(method, tasks, folds, whole, budget, say)


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
    say: Say = silent,
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
      say: gets a line for each setting that is tried.

    Raises:
      BadInput: a head takes more memory than there is, or the method needs what isn't known.
    """
    if not method.applies(knowledge):
        raise BadInput(f"knowledge: the method needs {' and '.join(sorted(method.needs))}")
    whole = Fold("all", train, val)
    parts = training_folds(whole.name, train, key, folds) if val is None else (whole,)
    return tune(method, make_tasks((whole, *parts), key, tol, final_tol, knowledge), parts, whole, budget, say)
