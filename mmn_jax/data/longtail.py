"""Makes a LongTail of a FeatureSet: holds test and validation examples out, then subsamples the rest to a long tail.

Counts of a subsampled tail, for the i-th class of a seeded order, i = 0..C−1, with the largest count M, the imbalance F = n_max / n_min
and m = M/F; each is at least 1:

    exp      ⌊M · F^(−i/(C−1))⌋                        Cui et al. 2019
    pareto   ⌊m + (M − m) · q_i / q_0⌋,  q_i = (C/(i+1))^(1/6) − 1      as ImageNet-LT (Liu et al. 2019)
    step     M for the first ⌊C/2⌋ classes, ⌊m⌋ for the rest            Cao et al. 2019

q_i are the quantiles of a Pareto distribution of power 6, from which ImageNet-LT drew its counts at random: C = 1000, M = 1280, F = 256
give 121,449 examples (ImageNet-LT has 115,846), and 404 / 456 / 140 many-, medium- and few-shot classes (ImageNet-LT: 385 / 479 / 136).
Instead, the tail may be a published list of training examples, with validation examples from the rest.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Array, Bool, Int, Int8, Key

from mmn_jax.errors import BadInput
from mmn_jax.rng import permutation, stream
from mmn_jax.types import ExamplesT, FeatureSet, LongTail

PARETO_POWER = 6  # α of ImageNet-LT and Places-LT


def _whole(counts):
    """Rounds counts down to integers from 1 up; 480 · 96^-1, which is 4.999.. in floating point, to 5."""
    return np.maximum(np.floor(counts + 1e-9), 1).astype(int)


def exponential_counts(classes: int, largest: int, imbalance: float) -> Int[np.ndarray, " {classes}"]:
    """Returns exponentially decreasing counts, at least 1."""
    exponent = -np.arange(classes) / max(classes - 1, 1)
    return _whole(largest * imbalance**exponent)


def pareto_counts(classes: int, largest: int, imbalance: float) -> Int[np.ndarray, " {classes}"]:
    """Returns decreasing counts at the quantiles of a Pareto distribution, scaled to `largest` .. `largest / imbalance`, at least 1."""
    quantiles = (classes / np.arange(1, classes + 1)) ** (1 / PARETO_POWER) - 1
    smallest = largest / imbalance
    return _whole(smallest + (largest - smallest) * quantiles / quantiles[0])


def step_counts(classes: int, largest: int, imbalance: float) -> Int[np.ndarray, " {classes}"]:
    """Returns `largest` for half of the classes, rounded down, then `largest / imbalance`, at least 1."""
    return _whole(np.where(np.arange(classes) < classes // 2, largest, largest / imbalance))


Profile = Callable[[int, int, float], np.ndarray]  # (C, M, F) → [C] decreasing counts
PROFILES: dict[str, Profile] = {"exp": exponential_counts, "pareto": pareto_counts, "step": step_counts}


def random_ranks(key: Key[Array, ""], y: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Draws a random rank, from 0, for each example within its class."""
    shuffled = permutation(key, len(y))
    order = shuffled[np.argsort(y[shuffled], kind="stable")]
    counts = np.bincount(y)
    ranks = np.empty(len(y), int)
    ranks[order] = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def stratified_folds(key: Key[Array, ""], y: Int[np.ndarray, " n"], folds: int) -> Int[np.ndarray, " n"]:
    """Draws the fold, 0 .. folds − 1, that holds each example out; −1 for a class's only example, which every fold trains on."""
    return np.where(np.bincount(y)[y] > 1, random_ranks(key, y) % folds, -1)


UNUSED, TRAIN, VAL, TEST = 0, 1, 2, 3  # what a training example of the source becomes


def hold_out_test(y: Int[np.ndarray, " n"], share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Draws the test examples of a set that has none: a share of each class, rounded down.

    A class with two examples or more has at least one test example and keeps at least one to train on; a single example is trained on.

    Args:
      y: labels of all examples.
      share: the share of every class.
      seed: determines which examples these are.

    Returns:
      The mask of the test examples.

    Raises:
      BadInput: the share isn't between 0 and 1, or every class has a single example.
    """
    if not 0 < share < 1:
        raise BadInput(f"test_share: must be above 0 and below 1, it is {share}")
    counts = np.bincount(y)
    if counts.max() < 2:
        raise BadInput("test_share: every class has a single example, none to hold out for testing")
    return random_ranks(stream(seed, "test share"), y) < np.minimum(_whole(share * counts), counts - 1)[y]


def _validation_mask(features, key, per_class, free, test):
    """Draws the mask [n] of the validation examples among the rows `free`: `per_class` of each class, and at most a third of it; test: the
    mask [n] of examples that don't count."""
    y = features.train.y
    held = np.zeros(len(y), bool)
    if features.val is not None or per_class is None:
        return held
    if per_class < 1:
        raise BadInput(f"val_per_class: must be at least 1 where there is no val_x, it is {per_class}")
    quota = np.minimum(per_class, np.bincount(y[~test], minlength=len(features.class_names)) // 3)
    held[free] = random_ranks(key, y[free]) < quota[y[free]]
    if not held.any():
        listed = len(free) < np.sum(~test)
        what = "the listed rows leave none to validate on" if listed else "no class has 3 examples to spare one for validation"
        raise BadInput(f"val_per_class: {what}; give val_x and val_y")
    return held


def long_tail_split(
    features: FeatureSet,
    seed: int,
    imbalance: float | None = None,
    max_per_class: int | None = None,
    val_per_class: int | None = 20,
    profile: Profile = exponential_counts,
    test: Bool[np.ndarray, " n"] | None = None,
) -> Int8[np.ndarray, " n"]:
    """Draws a split of the training examples of a set: validation examples and a long tail.

    With neither imbalance nor max_per_class all other examples are trained on. A class never gets more examples than it has.

    Args:
      features: the set.
      seed: determines the split.
      imbalance: n_max / n_min, or its inverse, below 1.
      max_per_class: M, by default the largest class count.
      val_per_class: validation examples of each class, at most a third of it, unless the set has a validation set; None for none.
      profile: returns the counts [C] of C classes in decreasing order, from (C, M, imbalance).
      test: the examples to test on (`hold_out_test`), which counts are taken without; None for none.

    Returns:
      TRAIN, VAL, TEST or UNUSED for each of the n training examples.

    Raises:
      BadInput: an imbalance or count is not positive, or no example is left to validate on.
    """
    if imbalance is not None and not (np.isfinite(imbalance) and imbalance > 0):
        raise BadInput(f"imbalance: must be a positive number, it is {imbalance}")
    if max_per_class is not None and max_per_class < 1:
        raise BadInput(f"max_per_class: must be at least 1, it is {max_per_class}")
    test = np.zeros(len(features.train.y), bool) if test is None else test
    held = _validation_mask(features, stream(seed, "validation"), val_per_class, np.flatnonzero(~test), test)
    train = np.flatnonzero(~(held | test))
    if imbalance is not None or max_per_class is not None:
        y, classes = features.train.y[train], len(features.class_names)
        ratio = 1.0 if imbalance is None else max(imbalance, 1 / imbalance)
        order = permutation(stream(seed, "class order"), classes)
        wanted = np.empty(classes, int)
        wanted[order] = profile(classes, max_per_class or int(np.bincount(y).max()), ratio)
        train = train[random_ranks(stream(seed, "tail"), y) < wanted[y]]
    part = np.select([held, test], [VAL, TEST], UNUSED).astype(np.int8)
    part[train] = TRAIN
    return part


def check_every_class(features: FeatureSet, rows: Int[np.ndarray, " m"], where: str) -> None:
    """Checks that each class has one of these rows of the training set, and raises BadInput if not; where: their file, for messages."""
    missing = np.bincount(features.train.y[rows], minlength=len(features.class_names)) == 0
    if missing.any():
        raise BadInput(f"{where}: class {features.class_names[int(missing.argmax())]} has no training example in it")


def read_indices(path: str | Path, features: FeatureSet) -> Int[np.ndarray, " m"]:
    """Reads the rows of train_x that a text file lists, one in each line, from 0.

    Raises:
      BadInput: the file can't be read, a line is no row of train_x or is repeated, or a class has no row.
    """
    n = len(features.train.y)
    try:
        words = Path(path).read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as text") from error
    lines = {number: word.strip() for number, word in enumerate(words, 1) if word.strip()}
    wrong = next(
        (number for number, word in lines.items() if not (word.isascii() and word.isdigit() and len(word) < 19 and int(word) < n)), None
    )
    if wrong is not None:
        raise BadInput(f"{path}: line {wrong} is {lines[wrong][:40]!r}, it must be a row of train_x, 0 to {n - 1}")
    rows = np.array([int(word) for word in lines.values()], int)
    repeated = np.bincount(rows, minlength=n) > 1
    if repeated.any():
        raise BadInput(f"{path}: row {int(repeated.argmax())} is listed twice")
    check_every_class(features, rows, str(path))
    return rows


def listed_split(features: FeatureSet, seed: int, rows: Int[np.ndarray, " m"], val_per_class: int | None = 20) -> Int8[np.ndarray, " n"]:
    """Returns a split whose training examples are listed; validation examples are drawn from the others.

    Args:
      features: the set.
      seed: determines the validation examples.
      rows: the training examples, as rows of train_x.
      val_per_class: validation examples of each class, at most a third of it, unless the set has a validation set; None for none.

    Returns:
      TRAIN, VAL or UNUSED for each of the n training examples of the set.

    Raises:
      BadInput: validation examples are wanted and the list leaves none.
    """
    part = np.full(len(features.train.y), UNUSED, np.int8)
    part[rows] = TRAIN
    free, none = np.flatnonzero(part == UNUSED), np.zeros(len(part), bool)
    part[_validation_mask(features, stream(seed, "validation"), val_per_class, free, none)] = VAL
    return part


def take(features: FeatureSet, part: Int8[np.ndarray, " n"]) -> LongTail:
    """Returns the LongTail of a split, which `long_tail_split`, `listed_split` or `manifest.read` made."""
    train = features.train.at(part == TRAIN)
    val = features.train.at(part == VAL) if (part == VAL).any() else features.val
    test = features.train.at(part == TEST) if (part == TEST).any() else features.test
    return LongTail(train, val, test, np.bincount(train.y, minlength=len(features.class_names)))


def class_pool(train: ExamplesT, classes: Int[np.ndarray, " H"]) -> ExamplesT:
    """Returns the examples of these classes, sorted by their new labels, which are positions in `classes`."""
    position = np.full(int(train.y.max()) + 1, -1)
    position[classes] = np.arange(len(classes))
    labels = position[train.y]
    chosen = np.argsort(labels, kind="stable")[(labels < 0).sum() :]
    return train._replace(x=train.x[chosen], y=labels[chosen].astype(np.int32))
