"""Reports repeated examples, without removing them: test or validation rows that are in training, and one row with two labels."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Int, Shaped

from mmn_jax.errors import Say
from mmn_jax.types import Examples


def hashes(x: Shaped[np.ndarray, "n ..."]) -> Int[np.ndarray, " n"]:
    """Returns int64 hashes of the rows [n]; those of different rows are equal with a probability of 2^-64."""
    return np.fromiter((hash(row.tobytes()) for row in x), np.int64, len(x))


def two_labels(train: Examples, keys: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Returns the rows of training examples whose features have several labels; keys: hashes of the features."""
    order = np.lexsort((train.y, keys))
    key, y = keys[order], train.y[order]
    begin = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    size = np.diff(np.r_[begin, len(key)])
    return np.sort(order[np.repeat(y[begin] != y[begin + size - 1], size)])


def tell_repeats(
    train: Examples, others: Mapping[str, Examples], class_name: Callable[[int], str], say: Say, name: str = "train_x"
) -> None:
    """Reports how many training examples have several labels, and how many of the others are in training, each in one line.

    Args:
      train: training examples.
      others: other examples, by the name of their array.
      class_name: returns the name of a label.
      say: takes the lines.
      name: the name of the array of training examples.
    """
    keys = hashes(train.x)
    rows = two_labels(train, keys)
    if len(rows):
        same = rows[keys[rows] == keys[rows[0]]]
        pair = same[0], same[train.y[same] != train.y[same[0]]][0]
        such = " and ".join(f"row {row} ({class_name(int(train.y[row]))})" for row in pair)
        say(f"{len(rows)} of {len(keys)} rows of {name} have the features of another row but a different label, such as {such}")
    tell_again(keys, others, say, name)


def tell_again(keys: Int[np.ndarray, " n"], others: Mapping[str, Examples], say: Say, name: str = "train_x") -> None:
    """Reports how many of the others are in training, each in one line; keys: `hashes` of the training examples. Else as `tell_repeats`."""
    for other, examples in others.items():
        again = int(np.isin(hashes(examples.x), keys).sum())
        if again:
            say(f"{again} of {len(examples.y)} rows of {other} are also in {name}, with the same features; accuracy on them says little")
