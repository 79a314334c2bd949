"""Folds: the examples that settings are fitted to and chosen by, and the tasks of their training sets."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, Key, Shaped

from mmn_jax.data.longtail import stratified_folds
from mmn_jax.evaluation.metrics import mean_class_accuracy
from mmn_jax.methods.tasks import Task, make_task
from mmn_jax.rng import fold
from mmn_jax.types import Knowledge, Normalised

ENOUGH = 30_000  # held-out examples; folds beyond them are left out

Tasks = Callable[[str], tuple[Task, Task]]  # name of a training set → its Task at the tolerance of choosing, and at the final one


class Fold(NamedTuple):
    """Examples to fit to and to choose by.

    name: distinguishes this training set from others. val: the validation examples; None where there are none. rows: their positions in the
    training set that the fold is a part of; None for a validation set of its own.
    """

    name: str
    train: Normalised
    val: Normalised | None
    rows: Int[np.ndarray, " m"] | None = None


def training_folds(name: str, train: Normalised, key: Key[Array, ""], number: int) -> tuple[Fold, ...]:
    """Splits a training set into at most `number` folds, each holding out a share of every class with two examples or more.

    Together they hold out every such example, except that a fold which would leave a single point to train on is dropped, and that there
    are no more folds than it takes to hold out ENOUGH examples. There are none where no class has two examples.

    Args:
      name: of the training set; the folds' names begin with it.
      train: the training set.
      key: the root of the stream that is drawn from.
      number: of folds.
    """
    held = stratified_folds(fold(key, "folds"), train.y, number)
    used = [i for i in range(number) if (held == i).any() and np.ptp(train.x[held != i], axis=0).any()]
    used = used[: 1 + np.searchsorted(np.cumsum([(held == i).sum() for i in used]), ENOUGH)]
    return tuple(Fold(f"{name}-fold{i}of{number}", train.at(held != i), train.at(held == i), np.flatnonzero(held == i)) for i in used)


def make_tasks(
    parts: Iterable[Fold],
    key: Key[Array, ""],
    tol: float,
    final_tol: float,
    knowledge: Knowledge = Knowledge(),  # noqa: B008 - a NamedTuple cannot change
) -> Tasks:
    """Makes the tasks of training sets, each on first use; heads that several methods need are solved once.

    Args:
      parts: their training sets, by name.
      key: the root of the streams that are drawn from.
      tol: the gradient norm to which heads are solved while choosing.
      final_tol: that of final heads.
      knowledge: what is known of the classes beside the training sets.
    """
    train = {part.name: part.train for part in parts}

    @functools.cache
    def tasks(name):
        rough = make_task(train[name], key, tol, knowledge=knowledge)
        return rough, make_task(rough.train, key, final_tol, rough, knowledge)

    return tasks


def held_labels(folds: Iterable[Fold]) -> Int[np.ndarray, " n"]:
    """Returns the labels of all folds' validation examples."""
    return np.concatenate([fold.val.y for fold in folds if fold.val is not None])


def in_order(values: Iterable[Shaped[np.ndarray, "_ ..."]], folds: Iterable[Fold]) -> Shaped[np.ndarray, "m ..."]:
    """Returns values of the examples that folds hold out, given fold by fold, in the order that the examples have in the training set."""
    rows = np.concatenate([fold.rows for fold in folds if fold.rows is not None])
    return np.concatenate(list(values))[np.argsort(rows)]


def held_accuracy(logits: Iterable[Float[np.ndarray, "_ C"]], folds: Iterable[Fold]) -> float:
    """Computes the mean per-class accuracy over all folds' validation examples, from their logits fold by fold."""
    return mean_class_accuracy(joined(list(logits)), held_labels(folds))


def joined(logits: Sequence[Float[np.ndarray, "_ C"]]) -> Float[np.ndarray, "m C"]:
    """Returns all folds' logits as one array; those of a single fold as they are, as they may take gigabytes."""
    return logits[0] if len(logits) == 1 else np.concatenate(logits)
