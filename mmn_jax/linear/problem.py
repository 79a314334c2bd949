"""TODO"""

from typing import NamedTuple

import jax
import numpy as np

from mmn_jax.linear.algebra import Array


class HeadProblem(NamedTuple):
    """One weighted, offset softmax regression.

    x: [n, d] features. y: [n] int32 labels from 0 to C − 1. weight: [n] example weights ω ≥ 0, not all 0; a padded example has 0.
    offset: [C] or [n, C] added to the logits in training. l2: the strength ℓ > 0 of the ridge on W, for the mean loss.
    """

    x: Array
    y: Array
    weight: Array
    offset: Array
    l2: Array | np.floating


PAD = 512  # examples are filled up to a multiple, so that similar sizes share one compiled program;


SMALL_PAD = 128  # to one of this up to PAD


def padded(examples: int, multiple: int | None = None) -> int:
    """How many examples there are once filled up, by default to a multiple of PAD or SMALL_PAD."""
    multiple = multiple or (PAD if examples > PAD else SMALL_PAD)
    return int(examples + -examples % multiple)


def pad_examples(problem: HeadProblem, multiple: int | None = None) -> HeadProblem:
    """The same problem with examples of weight 0 added up to a multiple; on the host, not under jit or vmap."""
    extra = padded(len(problem.y), multiple) - len(problem.y)

    def pad(array):
        return np.pad(array, [(0, extra)] + [(0, 0)] * (array.ndim - 1))  # numpy's: JAX would compile one for every shape

    offset = pad(problem.offset) if problem.offset.ndim == 2 else problem.offset
    return HeadProblem(*jax.device_put((pad(problem.x), pad(problem.y), pad(problem.weight), offset, np.float32(problem.l2))))
