"""Synthetic features with the shape of a real long-tailed set, for measuring time and memory when its features are not at hand.

    x = m_c + e,   m_c ~ N(0, B),   e ~ N(0, A),   A = 2B with eigenvalues that fall like 1/i

Counts fall geometrically from `largest` to `median` over the first half of the classes, and from there to 1 over the second.
"""

import numpy as np
from jaxtyping import Int

from mmn_jax.errors import BadInput
from mmn_jax.types import Examples, FeatureSet

SCATTER = 2.0  # A / B


def tail_counts(classes: int, largest: int, median: int) -> Int[np.ndarray, " {classes}"]:
    """Returns decreasing counts with this largest one and median, down to 1."""
    place = np.linspace(0, 1, classes)
    return np.round(np.exp(np.interp(place, [0, 0.5, 1], np.log([largest, median, 1])))).astype(int)


def make(name: str, classes: int, dim: int, largest: int, median: int, test_per_class: int) -> FeatureSet:
    """Makes features of the model above, the same at every call.

    Args:
      name: the name of the set, with which messages begin.
      classes: C, at least 2.
      dim: d.
      largest: training examples of the largest class.
      median: median of the classes' training examples.
      test_per_class: test examples of each class.

    Raises:
      BadInput: the counts don't fall from `largest` over `median` to 1, or a number is not positive.
    """
    if not (classes >= 2 and dim >= 1 and test_per_class >= 1 and largest >= median >= 1):
        raise BadInput(f"{name}: needs classes from 2, dim and test_per_class from 1, and largest >= median >= 1")
    rng = np.random.default_rng(0)
    scale = (1 / np.sqrt(np.arange(1, dim + 1))).astype(np.float32)
    means = rng.standard_normal((classes, dim), np.float32) * scale

    def examples(counts):
        y = np.repeat(np.arange(classes, dtype=np.int32), counts)
        x = rng.standard_normal((len(y), dim), np.float32)
        x *= np.sqrt(SCATTER).astype(np.float32) * scale
        x += means[y]
        return Examples(x, y)

    train, test = examples(tail_counts(classes, largest, median)), examples(np.full(classes, test_per_class))
    return FeatureSet(name, train, None, test, tuple(f"class {c}" for c in range(classes)))
