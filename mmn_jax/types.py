"""The data that flows, as NamedTuples.

source → FeatureSet → LongTail → heads θ → Bank → Regressor variables → transferred θ̂ → scores

Annotations name axes as in `mmn_jax.linear`: n examples, d dimensions, C classes, p = d + 1 numbers in a row θ_c.
"""

from collections.abc import Callable
from typing import NamedTuple, Self, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8


class Examples(NamedTuple):
    """Examples and their labels.

    x: features (float32); pixels of images, where a network is trained on them; or [n, 2] positions of images that are read later.
    y: labels (int32) from 0 to C − 1.
    """

    x: Float[np.ndarray, "n d"] | UInt8[np.ndarray, "n height width *channels"] | Int[np.ndarray, "n 2"]
    y: Int[np.ndarray, " n"]

    def at(self, rows: Int[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> Self:
        """Returns the examples at these positions, or where this mask is set; normalised ones stay normalised."""
        return type(self)(self.x[rows], self.y[rows])


class Normalised(Examples):
    """Examples with normalised features (`data.normalisation`), a type of their own so that raw ones can't be taken for them."""

    __slots__ = ()


ExamplesT = TypeVar("ExamplesT", bound=Examples)  # raw or normalised, the same throughout a signature


class Knowledge(NamedTuple):
    """What is known of the classes beside their examples; a field is None where nothing is.

    descriptions: of each class in any space: an embedding of its name or of a text, attributes, a taxonomy; all zeros for a class without
    one. unlabelled: features of examples without labels, normalised where those of the training set are.
    """

    descriptions: Float[np.ndarray, "C m"] | None = None
    unlabelled: Float[np.ndarray, "u d"] | None = None


class FeatureSet(NamedTuple):
    """A data set as its source provides it; val and test are None where the source has no validation or test set."""

    name: str
    train: Examples
    val: Examples | None
    test: Examples | None
    class_names: tuple[str, ...]
    knowledge: Knowledge = Knowledge()


class LongTail(NamedTuple):
    """A long-tailed training set, with validation and test examples.

    train: training examples. val: the examples that hyperparameters are chosen on; None where they are chosen on folds of train. test: the
    examples that results are reported for; None where they are reported for folds of train. counts: number of training examples of each
    class.
    """

    train: Examples
    val: Examples | None
    test: Examples | None
    counts: Int[np.ndarray, " C"]


class MixedBank(NamedTuple):
    """Mixed-shot heads: every class has its own number of examples, as in the long-tailed head itself.

    classes: the H classes of the heads. shots: the number of examples of each class that head s was fitted to. theta: its rows,
    logit-adjusted if the plan says so. means: the means of those examples. pool: all examples of these classes, with positions in `classes`
    as labels. used: which examples of the pool head s was fitted to. target: the rows of the head fitted to the whole pool, adjusted alike.
    """

    classes: Int[np.ndarray, " H"]
    shots: Int[np.ndarray, "S H"]
    theta: Float[np.ndarray, "S H p"]
    means: Float[np.ndarray, "S H d"]
    pool: Normalised
    used: Bool[np.ndarray, "S n"]
    target: Float[np.ndarray, "H p"]


class Bank(NamedTuple):
    """All k-shot heads of one k, in memory or on disk.

    shots: k. classes: the class set H_2k. subsets: S, the number of heads. heads: heads(first, stop) returns the rows [s, H, p] of those of
    the S heads, each fitted to k examples of every class. target: rows θ* of the head fitted to all examples of these classes.
    """

    shots: int
    classes: Int[np.ndarray, " H"]
    subsets: int
    heads: Callable[[int, int], Float[np.ndarray, "s H p"]]
    target: Float[np.ndarray, "H p"]
