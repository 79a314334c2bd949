"""Examples that come twice: rows of validation or test that stand in training, and one row under two labels. They are said, not removed."""

from pathlib import Path

import numpy as np

from mmn_jax.types import Examples, FeatureSet, Say


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


def tell_two_labels(train: Examples, class_names: tuple[str, ...] | None, where: str | Path, say: Say) -> np.ndarray:
    """Says how many training examples come under several labels; returns the hashes [n] of all of them."""
    keys = _keys(train.x)
    rows = two_labels(train, keys)
    if len(rows):
        pair = rows[np.flatnonzero(keys[rows] == keys[rows[0]])]
        other = pair[np.flatnonzero(train.y[pair] != train.y[pair[0]])[0]]
        called = [str(train.y[row]) if class_names is None else class_names[train.y[row]] for row in (pair[0], other)]
        such = f"such as row {pair[0]} ({called[0]}) and row {other} ({called[1]})"
        say(f"{where}: {len(rows)} of {len(keys)} rows of train_x come under more than one label with the same features, {such}")
    return keys


def tell_repeats(features: FeatureSet, where: str | Path, say: Say) -> None:
    """Says how many examples come twice, a line for each way."""
    keys = tell_two_labels(features.train, features.class_names, where, say)
    for part, examples, then in (("val", features.val, "choices lean to them"), ("test", features.test, "accuracy on them says little")):
        again = 0 if examples is None else int(np.isin(_keys(examples.x), keys).sum())
        if examples is not None and again:
            say(f"{where}: {again} of {len(examples.y)} rows of {part}_x stand in train_x, too, with the same features; {then}")
