"""Examples that come twice: rows of validation or test that stand in training, and one row under two labels. They are said, not removed."""

from collections.abc import Callable, Mapping

import numpy as np

from mmn_jax.errors import Say
from mmn_jax.types import Examples


def _keys(x):
    """[n] int64 hashes of rows: equal rows have equal ones, others differ but once in 2^64."""
    return np.fromiter((hash(row.tobytes()) for row in x), np.int64, len(x))


def two_labels(train: Examples, keys: np.ndarray) -> np.ndarray:
    """[m] the rows of training examples whose features come under several labels; keys: [n] hashes of their features."""
    order = np.lexsort((train.y, keys))
    key, y = keys[order], train.y[order]
    begin = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    size = np.diff(np.r_[begin, len(key)])
    return np.sort(order[np.repeat(y[begin] != y[begin + size - 1], size)])


def tell_repeats(train: Examples, others: Mapping[str, Examples], called: Callable[[int], str], say: Say, name: str = "train_x") -> None:
    """Says how many training examples come under several labels, and how many of the others stand in training, a line for each.

    others: what an array is called → its examples. called: a label's class. name: what the array of training examples is called.
    """
    keys = _keys(train.x)
    rows = two_labels(train, keys)
    if len(rows):
        same = rows[keys[rows] == keys[rows[0]]]
        pair = same[0], same[train.y[same] != train.y[same[0]]][0]
        such = " and ".join(f"row {row} ({called(int(train.y[row]))})" for row in pair)
        say(f"{len(rows)} of {len(keys)} rows of {name} come under more than one label with the same features, such as {such}")
    for other, examples in others.items():
        again = int(np.isin(_keys(examples.x), keys).sum())
        if again:
            say(f"{again} of {len(examples.y)} rows of {other} stand in {name}, too, with the same features; accuracy on them says little")
