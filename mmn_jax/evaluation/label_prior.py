"""How often classes come up where a classifier is used. Calibrated scores are those of equal shares; under others they gain log(π_c C)."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mmn_jax.data.labels import normal
from mmn_jax.errors import BadInput

NAMED: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # of training counts [C]
    "uniform": lambda counts: np.ones(len(counts)),
    "train": lambda counts: counts,
}


def class_shares(prior: np.ndarray, classes: int, where: str) -> np.ndarray:
    """[C] a prior of numbers from 0 up, summing to 1.

    Raises:
      BadInput: it doesn't hold C numbers from 0 up of a finite sum above 0; the line starts with `where`.
    """
    with np.errstate(over="ignore"):
        total = prior.sum()
    if prior.shape != (classes,):
        raise BadInput(f"{where}: must hold {classes} numbers, one a class; it has {prior.size}")
    if not ((prior >= 0).all() and 0 < total < np.inf):
        raise BadInput(f"{where}: must hold numbers from 0 up, of a finite sum above 0")
    return prior / total


def _by_name(text, names, where):
    """[C] the numbers of a text with a line `name number` for each class, in any order; None where it is none.

    Raises:
      BadInput: a name that no class has, or that comes twice.
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


def read_prior(source: str, counts: np.ndarray, flag: str, class_names: Sequence[str]) -> np.ndarray:
    """[C] shares of the classes: uniform, as in training, whose counts [C] are given, or from a text file: a number for each class, in
    their order, or a line `name number` for each, in any.

    Raises:
      BadInput: the file cannot be read or doesn't hold C numbers from 0 up; the line names the flag.
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


def gain(shares: np.ndarray) -> np.ndarray:
    """[C] what calibrated scores gain under these shares; -inf for a class that never comes up."""
    with np.errstate(divide="ignore"):
        return np.log(shares * len(shares))
