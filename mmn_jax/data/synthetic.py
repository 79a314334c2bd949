"""Synthetic features with the shape of a real long-tailed set, for measuring time and memory when its features are not at hand.

    x = m_c + e,   m_c ~ N(0, B),   e ~ N(0, A),   A = scatter · B with eigenvalues that fall like 1/i

Counts fall geometrically from `largest` to `median` over the first half of the classes, and from there to `least` over the second.
"""

import numpy as np
from jaxtyping import Int

from mmn_jax.errors import BadInput
from mmn_jax.types import Examples, FeatureSet


def tail_counts(classes: int, largest: int, median: int, least: int = 1) -> Int[np.ndarray, " {classes}"]:
    """Returns decreasing counts with this largest one, median and least one."""
    place = np.linspace(0, 1, classes)
    return np.round(np.exp(np.interp(place, [0, 0.5, 1], np.log([largest, median, least])))).astype(int)


def make(
    name: str, classes: int, dim: int, largest: int, median: int, test_per_class: int, least: int = 1, scatter: float = 2.0
) -> FeatureSet:
    """Makes features of the model above, the same at every call.

    Args:
      name: the name of the set, with which messages begin.
      classes: C, at least 2.
      dim: d.
      largest: training examples of the largest class.
      median: median of the classes' training examples.
      test_per_class: test examples of each class.
      least: training examples of the smallest class.
      scatter: variance within classes, in units of that of their means; the larger it is, the harder the problem.

    Raises:
      BadInput: the counts don't fall from `largest` over `median` to `least`, or a number is not positive.
    """
    if not (classes >= 2 and dim >= 1 and test_per_class >= 1 and largest >= median >= least >= 1 and scatter > 0):
        needs = "classes from 2, dim and test_per_class from 1, largest >= median >= least >= 1, scatter above 0"
        raise BadInput(f"{name}: needs {needs}")
    rng = np.random.default_rng(0)
    scale = (1 / np.sqrt(np.arange(1, dim + 1))).astype(np.float32)
    means = rng.standard_normal((classes, dim), np.float32) * scale

    def examples(counts):
        y = np.repeat(np.arange(classes, dtype=np.int32), counts)
        x = rng.standard_normal((len(y), dim), np.float32)
        x *= np.float32(np.sqrt(scatter)) * scale
        x += means[y]
        return Examples(x, y)

    train, test = examples(tail_counts(classes, largest, median, least)), examples(np.full(classes, test_per_class))
    return FeatureSet(name, train, None, test, tuple(f"class {c}" for c in range(classes)))
