"""Synthetic features for the benchmarks of banks: Gaussian classes with a power-law spectrum."""

from typing import NamedTuple

import numpy as np

from mmn_jax.data.normalisation import normalisation
from mmn_jax.types import Examples, Normalised


class Case(NamedTuple):
    """One line of the table: k, d and the number of classes."""

    k: int
    d: int
    classes: int


def features(case: Case) -> tuple[Normalised, np.ndarray]:
    """Draws 2k examples of every class; returns them normalised, with their counts [C]."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, case.d + 1) ** -0.5
    means = rng.normal(size=(case.classes, case.d)) * spectrum
    y = np.repeat(np.arange(case.classes, dtype=np.int32), 2 * case.k)
    x = means[y] + 1.5 * rng.normal(size=(len(y), case.d)) * spectrum
    return normalisation(Examples(x, y)).of(Examples(x, y)), np.bincount(y)


def subset(rng: np.random.Generator, case: Case, train: Normalised) -> tuple[np.ndarray, np.ndarray]:
    """Draws k examples of each class, sorted by class; returns features and labels."""
    index = np.concatenate([rng.permutation(np.flatnonzero(train.y == c))[: case.k] for c in range(case.classes)])
    return train.x[index], train.y[index]
