"""FeatureSet → LongTail: validation examples taken out first, then the tail is cut.

Counts of a made tail: ⌊M · F^(−i/(C−1))⌋ for the i-th class of a seeded order, M the
largest count and F the imbalance n_max / n_min (Cui et al. 2019, the exponential profile).
"""

import jax
import numpy as np

from mmn_jax.keys import stream
from mmn_jax.types import BadInput, Examples, FeatureSet, LongTail


def tail_counts(classes: int, largest: int, imbalance: float) -> np.ndarray:
    """[C] target counts from the most frequent class to the rarest, at least 1."""
    exponent = -np.arange(classes) / max(classes - 1, 1)
    # 480 · 96^-1 is 4.999.. in floating point; the formula means 5
    return np.maximum(np.floor(largest * imbalance**exponent + 1e-9), 1).astype(int)


def random_ranks(key: jax.Array, y: np.ndarray) -> np.ndarray:
    """[n] a random rank of each example within its own class, from 0."""
    shuffled = np.asarray(jax.random.permutation(key, len(y)))
    order = shuffled[np.argsort(y[shuffled], kind="stable")]
    counts = np.bincount(y)
    ranks = np.empty(len(y), int)
    ranks[order] = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def stratified_folds(key: jax.Array, y: np.ndarray, folds: int) -> np.ndarray:
    """[n] the fold, 0.. folds-1, that leaves an example out; -1 for a class's only example, which every fold trains on."""
    return np.where(np.bincount(y)[y] > 1, random_ranks(key, y) % folds, -1)


UNUSED, TRAIN, VAL = 0, 1, 2  # what a training example of the source becomes


def _validation_mask(features, key, per_class):
    """[n] examples held back: `per_class` a class, at most a third, none of a class with fewer than 3."""
    y = features.train.y
    if features.val is not None or per_class is None:
        return np.zeros(len(y), bool)
    if per_class < 1:
        raise BadInput(f"data.val_per_class: must be at least 1 where the file has no val_x, it is {per_class}")
    quota = np.minimum(per_class, np.bincount(y, minlength=len(features.class_names)) // 3)
    held = random_ranks(key, y) < quota[y]
    if not held.any():
        raise BadInput("data.val_per_class: no class has 3 examples to spare one for validation; give val_x and val_y in the file")
    return held


def long_tail_split(
    features: FeatureSet, seed: int, imbalance: float | None = None, max_per_class: int | None = None, val_per_class: int | None = 20
) -> np.ndarray:
    """[n] TRAIN, VAL or UNUSED for every training example of the set; with neither imbalance nor max_per_class the set's own counts stand.

    imbalance: n_max / n_min, or its inverse below 1. max_per_class: M, by default the largest class
    count. A class never gets more than it has. val_per_class: None takes no validation examples.

    Raises:
      BadInput: an imbalance or count that is not positive, or nothing left to validate on.
    """
    if imbalance is not None and not (np.isfinite(imbalance) and imbalance > 0):
        raise BadInput(f"data.longtail.imbalance: must be a positive number, it is {imbalance}")
    if max_per_class is not None and max_per_class < 1:
        raise BadInput(f"data.longtail.max_per_class: must be at least 1, it is {max_per_class}")
    held = _validation_mask(features, stream(seed, "validation"), val_per_class)
    train = np.flatnonzero(~held)
    if imbalance is not None or max_per_class is not None:
        y, classes = features.train.y[train], len(features.class_names)
        ratio = 1.0 if imbalance is None else max(imbalance, 1 / imbalance)
        order = np.asarray(jax.random.permutation(stream(seed, "class order"), classes))
        wanted = np.empty(classes, int)
        wanted[order] = tail_counts(classes, max_per_class or np.bincount(y).max(), ratio)
        train = train[random_ranks(stream(seed, "tail"), y) < wanted[y]]
    part = np.where(held, VAL, UNUSED).astype(np.int8)
    part[train] = TRAIN
    return part


def take(features: FeatureSet, part: np.ndarray) -> LongTail:
    """The LongTail of a split made by `long_tail_split`."""

    def chosen(which):
        return Examples(features.train.x[part == which], features.train.y[part == which])

    train = chosen(TRAIN)
    val = chosen(VAL) if (part == VAL).any() else features.val
    return LongTail(train, val, features.test, np.bincount(train.y, minlength=len(features.class_names)))
