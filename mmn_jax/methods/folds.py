"""Folds: what settings are fitted to and chosen by, and the tasks of their training sets."""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from mmn_jax.data.longtail import stratified_folds
from mmn_jax.evaluation.metrics import mean_class_accuracy
from mmn_jax.methods.tasks import Task, make_task
from mmn_jax.rng import fold
from mmn_jax.types import Examples

Tasks = Callable[[str], tuple[Task, Task]]  # name of a training set → its Task at the tolerance of choosing, and at the final one


class Fold(NamedTuple):
    """Normalised examples to fit to and to choose by (None: there are none), and a name that tells this training set from others."""

    name: str
    train: Examples
    val: Examples | None


def training_folds(name: str, train: Examples, key: PRNGKeyArray, number: int) -> tuple[Fold, ...]:
    """Splits a training set into at most `number` folds, each holding out a share of every class with two examples or more.

    Together they hold out every such example, but for a fold that would leave a single point to train on, which is dropped. There are
    none where no class has two examples.
    """
    held = stratified_folds(fold(key, "folds"), train.y, number)
    used = [i for i in range(number) if (held == i).any() and np.ptp(train.x[held != i], axis=0).any()]
    return tuple(Fold(f"{name}-fold{i}of{number}", train.at(held != i), train.at(held == i)) for i in used)


def make_tasks(parts: Iterable[Fold], key: PRNGKeyArray, tol: float, final_tol: float) -> Tasks:
    """Makes the tasks of training sets, each when it is first asked for; heads that several methods use are solved once."""
    train = {part.name: part.train for part in parts}

    @functools.cache
    def tasks(name):
        rough = make_task(train[name], key, tol)
        return rough, make_task(rough.train, key, final_tol, rough)

    return tasks


def held_labels(folds: Iterable[Fold]) -> Int[np.ndarray, " n"]:
    """Returns the labels of the folds' validation examples taken together."""
    return np.concatenate([fold.val.y for fold in folds if fold.val is not None])


def held_accuracy(logits: Iterable[Float[np.ndarray, "_ C"]], folds: Iterable[Fold]) -> float:
    """Computes the mean per-class accuracy of the folds' validation examples taken together."""
    return mean_class_accuracy(np.concatenate(list(logits)), held_labels(folds))
