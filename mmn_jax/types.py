"""The data that flows, as NamedTuples, the one error that bad input raises, and how what is doubtful is said.

source → FeatureSet → LongTail → heads θ → Bank → Regressor variables → transferred θ̂ → scores
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Examples(NamedTuple):
    """x: [n, d] float32 features; uint8 images [n, H, W] or [n, H, W, channels] where a network is trained, or [n, 2] places of images
    that are read later. y: [n] int32 labels in 0..C-1."""

    x: np.ndarray
    y: np.ndarray

    def at(self, rows: np.ndarray) -> "Examples":
        """Those at these rows, positions or a mask [n]."""
        return Examples(self.x[rows], self.y[rows])


class FeatureSet(NamedTuple):
    """A data set as its source gives it; val is None where the source has no validation set."""

    name: str
    train: Examples
    val: Examples | None
    test: Examples
    class_names: tuple[str, ...]


class LongTail(NamedTuple):
    """A long-tailed training set with the examples that choose (val, None where the training set itself has to)
    and judge (test); counts: [C] of train."""

    train: Examples
    val: Examples | None
    test: Examples
    counts: np.ndarray


class MixedBank(NamedTuple):
    """Mixed-shot heads: every class at a shot count of its own, as in the long-tailed head itself.

    classes: [H]. shots: [S, H] how many examples of each class head s was fitted to. theta: [S, H, d+1] its rows, logit-adjusted where
    the plan says so. means: [S, H, d] the means of those examples. pool: all examples of these classes, labels are positions in
    `classes`. used: [S, n] which of the pool a head was fitted to. target: [H, d+1] likewise those of the head fitted to the pool.
    """

    classes: np.ndarray
    shots: np.ndarray
    theta: np.ndarray
    means: np.ndarray
    pool: Examples
    used: np.ndarray
    target: np.ndarray


class Bank(NamedTuple):
    """All k-shot heads of one k; they may lie on a disk.

    shots: k. classes: [C_k] the class set H_2k. subsets: S. heads: heads(first, stop) → [stop − first, C_k, d+1] rows of these
    of the S heads, each fitted to k examples of every class. target: [C_k, d+1] rows θ* of the head fitted to everything these
    classes have.
    """

    shots: int
    classes: np.ndarray
    subsets: int
    heads: Callable[[int, int], np.ndarray]
    target: np.ndarray
