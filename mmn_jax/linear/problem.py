"""The convex problem that every head is the solution of, and its padding to sizes that share one compiled program."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mmn_jax.linear.algebra import AnyArray, FloatLike


class HeadProblem(NamedTuple):
    """One softmax regression with example weights and logit offsets; `linear/solve.py` has its objective.

    x: features. y: labels from 0 to C − 1. weight: example weights ω ≥ 0, not all 0; a padded example has 0. offset: added to the logits
    in training, the same for all examples or one row for each. l2: the strength ℓ > 0 of the ridge on W, for the mean loss.
    """

    x: Float[AnyArray, "n d"]
    y: Int[AnyArray, " n"]
    weight: Float[AnyArray, " n"]
    offset: Float[AnyArray, " C"] | Float[AnyArray, "n C"]
    l2: FloatLike


PAD = 512  # the number of examples is rounded up to a multiple of it, so that similar sizes share one compiled program
SMALL_PAD = 128  # takes its place for up to PAD examples


def padded(examples: int, multiple: int | None = None) -> int:
    """Returns the number of examples after padding to a multiple; by default of PAD, or of SMALL_PAD for up to PAD examples."""
    multiple = multiple or (PAD if examples > PAD else SMALL_PAD)
    return int(examples + -examples % multiple)


def pad_examples(problem: HeadProblem, multiple: int | None = None) -> HeadProblem:
    """Returns the same problem, as numpy arrays, with examples of weight 0 appended, as `padded` counts them."""
    extra = padded(len(problem.y), multiple) - len(problem.y)

    def pad(array):
        return np.pad(array, [(0, extra)] + [(0, 0)] * (array.ndim - 1))  # numpy's: JAX would compile one for every shape

    offset = pad(problem.offset) if problem.offset.ndim == 2 else problem.offset
    return HeadProblem(pad(problem.x), pad(problem.y), pad(problem.weight), np.asarray(offset), np.float32(problem.l2))
