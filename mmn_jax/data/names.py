"""The names that arguments carry, such as the index and the columns of a data frame: arguments are aligned by them, or refused where
that is left open. Going by position would pair the wrong things. Whatever has such names is known by them, pandas isn't needed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmn_jax.data.labels import normal
from mmn_jax.errors import BadInput


def by_label(values: Any, labels: list[Any], name: str) -> Any:
    """Values that carry labels, as a mapping or a pandas Series does, in the order of these labels; other ones as they are.

    Raises:
      BadInput: theirs aren't just these; the line starts with `name`.
    """
    if not isinstance(values, Mapping) and not hasattr(values, "to_dict"):
        return values
    items = (values if isinstance(values, Mapping) else values.to_dict()).items()
    given = {normal(label) if isinstance(label, str) else label: value for label, value in items}
    wrong = [f"{label!r} is none of them" for label in given if label not in labels]
    wrong += [f"{label!r} has none" for label in labels if label not in given]
    if len(given) != len(values):
        wrong.append("some come twice")
    if wrong:
        advice = "" if isinstance(values, Mapping) else f"; numpy.asarray({name}) goes by position"
        raise BadInput(f"{name}: must have one number for each class by its label, but {wrong[0]}{advice}")
    return [given[label] for label in labels]


def _index(values):
    """The labels of the rows, None where they have none; a list has a method of that name."""
    index = getattr(values, "index", None)
    return None if callable(index) else index


def check_rows(X: Any, x_name: str = "X", **others: Any) -> None:
    """Each of the others, by its name, has a value for every row of X: where both have an index, it is the same.

    Raises:
      BadInput: it has other labels, or the same in another order.
    """
    ours = _index(X)
    for name, values in others.items():
        theirs = _index(values)
        if ours is None or theirs is None or len(ours) != len(theirs):  # lengths are checked elsewhere
            continue
        if not (ours.equals(theirs) if hasattr(ours, "equals") else np.array_equal(ours, theirs)):
            advice = f"give {name}.loc[{x_name}.index], or {name}.to_numpy() where rows belong together by position"
            raise BadInput(f"{name}: its index isn't that of {x_name}; {advice}")


def other_columns(X: Any) -> list[Any] | None:
    """The names of a data frame's columns where not all are text, and scikit-learn doesn't look at them; None where it does."""
    columns: Any = getattr(X, "columns", None)
    names = columns.tolist() if hasattr(columns, "tolist") else []
    return None if all(isinstance(name, str) for name in names) else names


def check_columns(X: Any, fitted: list[Any] | None) -> None:
    """The columns are those of the fit, in their order, where neither are text.

    Raises:
      BadInput: they are others.
    """
    names = other_columns(X)
    if names and fitted and names != fitted:
        at = next(i for i, (ours, theirs) in enumerate(zip(names, fitted, strict=True)) if ours != theirs)
        raise BadInput(f"X: column {at} is {names[at]!r}, in fit it was {fitted[at]!r}; give the columns in the order of fit")
