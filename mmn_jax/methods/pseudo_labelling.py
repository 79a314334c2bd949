"""Labels examples that have none by a head, where it is sure enough, so that another head can be fitted to all (Lee 2013).

ŷ_j = argmax_c p(c | x_j),    used where max_c p(c | x_j) ≥ threshold
"""

from bisect import bisect_right
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key
from scipy.special import softmax

from mmn_jax.data.longtail import random_ranks
from mmn_jax.linear.rows import predict_logits
from mmn_jax.types import Knowledge, Normalised

CHUNK_FLOATS = 2**24  # of the probabilities in memory at once


def pool_of(knowledge: Knowledge) -> Float[np.ndarray, "u d"]:
    """Returns the features of the examples without labels, for a method that isn't fitted where there are none."""
    assert knowledge.unlabelled is not None, "the method needs them"
    return knowledge.unlabelled


class Labelled(NamedTuple):
    """The examples that a head is sure enough of: which of them, and their labels."""

    sure: Bool[np.ndarray, " u"]
    y: Int[np.ndarray, " s"]


def label(rows: Float[np.ndarray, "C p"], x: Float[np.ndarray, "u d"], threshold: float) -> Labelled:
    """Labels the examples whose class has at least the probability `threshold` under the rows."""
    size = max(1, CHUNK_FLOATS // len(rows))
    found = []
    for first in range(0, len(x), size):
        probability = softmax(predict_logits(rows, x[first : first + size]), axis=1)
        found.append((probability.max(1) >= threshold, probability.argmax(1).astype(np.int32)))
    sure, y = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Labelled(sure, y[sure])


def level_within(new: Labelled, counts: Int[np.ndarray, " C"], largest: int, total: int) -> int:
    """Returns the number of examples that classes are filled up to: `largest`, or less where more than `total` would get labels."""
    there = np.bincount(new.y, minlength=len(counts))
    return bisect_right(range(largest + 1), total, key=lambda most: np.minimum(there, np.maximum(most - counts, 0)).sum()) - 1


def up_to(new: Labelled, counts: Int[np.ndarray, " C"], most: int, key: Key[Array, ""]) -> Labelled:
    """Draws as many examples of each class as fill it up to `most`; counts: of its examples with labels."""
    kept = random_ranks(key, new.y) < (most - counts)[new.y]
    sure = new.sure.copy()
    sure[sure] = kept
    return Labelled(sure, new.y[kept])


def with_labelled(train: Normalised, x: Float[np.ndarray, "u d"], new: Labelled) -> Normalised:
    """Returns the training set with the newly labelled examples behind it."""
    return Normalised(np.concatenate([train.x, x[new.sure]]), np.concatenate([train.y, new.y.astype(train.y.dtype)]))
