"""Aligns arguments by the names that they carry, such as the index and the columns of a data frame, or refuses them if that is ambiguous.

Aligning them by position would pair the wrong things. Such arguments are recognised by their attributes; pandas isn't needed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmn_jax.data.labels import normal
from mmn_jax.errors import BadInput


def by_label(values: Any, labels: list[Any], name: str, each: str = "number") -> Any:
    """Returns values that carry labels, as a mapping or a pandas Series does, as a list in the order of `labels`; others unchanged.

    Args:
      values: the values of an argument.
      labels: each label once.
      name: the argument, with which a message begins.
      each: what one value is, for messages.

    Raises:
      BadInput: the values have other labels.
    """
    if not isinstance(values, Mapping) and not hasattr(values, "to_dict"):
        return values
    items = (values if isinstance(values, Mapping) else values.to_dict()).items()
    given = {normal(label) if isinstance(label, str) else label: value for label, value in items}
    wrong = [f"{label!r} is not a class" for label in given if label not in labels]
    wrong += [f"{label!r} is missing" for label in labels if label not in given]
    if len(given) != len(values):
        wrong.append("some labels are repeated")
    if wrong:
        advice = "" if isinstance(values, Mapping) else f"; give numpy.asarray({name}) to go by position"
        raise BadInput(f"{name}: must have one {each} for the label of each class, but {wrong[0]}{advice}")
    return [given[label] for label in labels]


def vectors_by_label(values: Any, labels: list[Any], name: str) -> Any:
    """Returns vectors that carry labels, as a mapping does or a data frame indexed by them, as an array in the order of `labels`.

    Other values are returned as an array, too, and so is a data frame whose index only numbers its rows.

    Args:
      values: the value of an argument.
      labels: each label once.
      name: the argument, with which a message begins.

    Raises:
      BadInput: the vectors have other labels, or different lengths.
    """
    index = _index(values)
    if hasattr(values, "columns") and index is not None and list(index) != list(range(len(values))):
        if len(set(index)) < len(values):
            raise BadInput(f"{name}: must have one vector for the label of each class, but some labels are repeated")
        values = dict(zip(index, np.asarray(values), strict=True))
    if not isinstance(values, Mapping):
        return np.asarray(values)
    found = [np.asarray(one) for one in by_label(values, labels, name, "vector, zeros where there is none,")]
    other = next((c for c, one in enumerate(found) if one.shape != found[0].shape), None)
    if other is not None:
        shapes = f"{labels[0]!r} has shape {list(found[0].shape)}, {labels[other]!r} {list(found[other].shape)}"
        raise BadInput(f"{name}: must have vectors of one length, but {shapes}")
    return np.stack(found)


def _index(values):
    """Returns the labels of the rows, or None without labels; the `index` of a list is a method."""
    index = getattr(values, "index", None)
    return None if callable(index) else index


def check_rows(X: Any, x_name: str = "X", **others: Any) -> None:
    """Checks that arguments whose values belong to the rows of X have the index of X, if both have one.

    Args:
      X: features.
      x_name: the name of that argument.
      **others: other arguments by name.

    Raises:
      BadInput: an index has other labels, or the same in another order.
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
    """Returns the names of a data frame's columns unless all are text; scikit-learn itself checks those that are."""
    columns: Any = getattr(X, "columns", None)
    names = columns.tolist() if hasattr(columns, "tolist") else []
    return None if all(isinstance(name, str) for name in names) else names


def check_columns(X: Any, fitted: list[Any] | None) -> None:
    """Checks that columns whose names aren't all text are those of the fit, in the same order.

    Args:
      X: features.
      fitted: what `other_columns` returned in the fit.

    Raises:
      BadInput: the columns differ.
    """
    names = other_columns(X)
    if names and fitted and names != fitted:
        at = next(i for i, (ours, theirs) in enumerate(zip(names, fitted, strict=True)) if ours != theirs)
        raise BadInput(f"X: column {at} is {names[at]!r}, in fit it was {fitted[at]!r}; give the columns in the order of fit")
