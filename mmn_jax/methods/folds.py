"""TODO"""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from mmn_jax.data.longtail import stratified_folds
from mmn_jax.evaluation.metrics import mean_class_accuracy
from mmn_jax.methods.tasks import Task, make_task
from mmn_jax.rng import stream
from mmn_jax.types import Examples


class Fold(NamedTuple):
    """Normalised examples to fit on and to choose by (None: none), and a name that goes into the hash of every artefact made from them."""

    name: str
    train: Examples
    val: Examples | None


def training_folds(name: str, train: Examples, seed: int, number: int) -> tuple[Fold, ...]:
    """At most `number` folds, each holding out a share of every class with two examples or more; none where no class has two.

    Together they hold out every such example, but for a fold that would leave a single point to train on, which is dropped.
    """
    held = stratified_folds(stream(seed, "folds"), train.y, number)
    used = [i for i in range(number) if (held == i).any() and np.ptp(train.x[held != i], axis=0).any()]
    return tuple(Fold(f"{name}-fold{i}of{number}", train.at(held != i), train.at(held == i)) for i in used)


def make_tasks(parts: Iterable[Fold], seed: int, tol: float, final_tol: float) -> Callable[[str], tuple[Task, Task]]:
    """part name → its Task at the tolerance of choosing and at the final one, each made when it is first asked for."""
    train = {part.name: part.train for part in parts}

    @functools.cache  # heads that several methods use are solved once
    def tasks(name):
        rough = make_task(train[name], stream(seed, "weighting"), tol)
        return rough, make_task(rough.train, rough.key, final_tol, rough)

    return tasks


def held_labels(folds: Iterable[Fold]) -> np.ndarray:
    """[n] labels of the folds' validation examples taken together."""
    return np.concatenate([fold.val.y for fold in folds if fold.val is not None])


def held_accuracy(logits: Iterable[np.ndarray], folds: Iterable[Fold]) -> float:
    """Mean per-class accuracy of the folds' validation examples taken together."""
    return mean_class_accuracy(np.concatenate(list(logits)), held_labels(folds))
