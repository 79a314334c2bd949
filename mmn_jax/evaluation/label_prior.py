"""The class prior where a classifier is used: how it is given, and how it changes scores.

Calibrated scores are those under a uniform prior over C classes. Under a prior π, log(π_c C) is added to the score of class c.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Real

from mmn_jax.data.labels import normal
from mmn_jax.errors import BadInput

NAMED: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # functions of training counts [C]; `class_shares` normalises their results
    "uniform": lambda counts: np.ones(len(counts)),
    "train": lambda counts: counts,
}


def class_shares(prior: Real[np.ndarray, "..."], classes: int, where: str) -> Float[np.ndarray, " {classes}"]:
    """Normalises a prior, in any unit, to sum to 1.

    Args:
      prior: one number from 0 up for each class.
      classes: their number.
      where: the argument or file that the prior comes from; an error message begins with it.

    Raises:
      BadInput: it doesn't hold one number from 0 up for each class, or their sum isn't finite and above 0.
    """
    with np.errstate(over="ignore"):
        total = prior.sum()
    if prior.shape != (classes,):
        raise BadInput(f"{where}: must hold {classes} numbers, one a class; it has {prior.size}")
    if not ((prior >= 0).all() and 0 < total < np.inf):
        raise BadInput(f"{where}: must hold numbers from 0 up, of a finite sum above 0")
    return prior / total


def _by_name(text, names, where):
    """Returns the numbers [C] of a text that has a line `name number` for each class, in any order; None for any other text.

    Raises:
      BadInput: a name is none of a class, or is there twice.
    """
    lines = [line.rsplit(maxsplit=1) for line in text.splitlines() if line.strip()]
    if len(lines) != len(names) or not all(len(line) == 2 for line in lines):
        return None
    found = [normal(name.strip()) for name, _ in lines]
    strange = [name for name in found if name not in names] + [name for name, count in Counter(found).items() if count > 1]
    if strange:
        raise BadInput(f"{where}: names {strange[0]!r}, but must name each class once, such as {names[0]!r}; or hold numbers alone")
    share = {name: float(number) for name, (_, number) in zip(found, lines, strict=True)}
    return np.array([share[name] for name in names])


def read_prior(source: str, counts: Real[np.ndarray, " C"], flag: str, class_names: Sequence[str]) -> Float[np.ndarray, " C"]:
    """Returns the class prior that a flag names.

    Args:
      source: `uniform`; `train`, for the shares of the classes in the training set; or a text file, with a number for each class in the
        order of the classes, or a line `name number` for each in any order.
      counts: numbers of training examples of each class, or their shares.
      flag: the flag, for messages.
      class_names: of the classes, in the order of `counts`.

    Raises:
      BadInput: the file can't be read or doesn't hold one number from 0 up for each class.
    """
    where, classes = f"{flag}={source}", len(counts)
    if source in NAMED:
        return class_shares(NAMED[source](counts), classes, where)
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
        numbers = _by_name(text, tuple(map(normal, class_names)), where)
        numbers = np.array(text.split(), float) if numbers is None else numbers
    except BadInput:
        raise
    except (OSError, ValueError) as error:
        raise BadInput(f"{where}: must be uniform, train, or a text file of {classes} numbers") from error
    return class_shares(numbers, classes, where)


def gain(shares: Float[np.ndarray, " C"]) -> Float[np.ndarray, " C"]:
    """Returns log(π_c C), which is added to calibrated scores under the prior π = shares; −inf for a class of prior 0."""
    with np.errstate(divide="ignore"):
        return np.log(shares * len(shares))
