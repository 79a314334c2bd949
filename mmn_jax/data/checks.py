"""Checks arrays by name, PART_x, PART_y and class_names, as they come from files of features or of images, and maps named labels."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Real

from mmn_jax.data.labels import coded, is_text, meet, normal, told_apart
from mmn_jax.errors import BadInput, Say, warn
from mmn_jax.types import Examples

MAX_CLASSES = 2**20  # a larger label is an identifier, not a class index
CHUNK_FLOATS = 2**22  # checked at once


def numbered(
    arrays: Mapping[str, np.ndarray], where: str | Path, parts: tuple[str, ...] = ("train", "val", "test")
) -> dict[str, np.ndarray]:
    """Maps labels that are names to integers, if any part has such labels.

    Args:
      arrays: arrays by name, with labels PART_y and perhaps class_names.
      where: their file, for messages.
      parts: the parts whose labels are mapped.

    Returns:
      All arrays, with integer labels: positions in class_names or, without that, in the sorted names of train, which become class_names.

    Raises:
      BadInput: labels of one part can't be mapped to those of another.
    """
    there = [part for part in parts if f"{part}_y" in arrays and arrays[f"{part}_y"].ndim == 1]
    if not any(is_text(arrays[f"{part}_y"]) for part in there):
        return dict(arrays)
    units = {part: [coded(np.asarray(arrays[f"{part}_y"]), f"{where}: {part}_y")] for part in there}
    names, y = meet(units, _listed_names(arrays, where))
    return {**arrays, **{f"{part}_y": labels for part, labels in y.items()}, **({} if names is None else {"class_names": np.array(names)})}


def labelled(arrays: Mapping[str, np.ndarray], part: str, where: str | Path) -> Examples:
    """Returns the arrays PART_x [n, ..], unchanged and with unchecked values, and PART_y [n] as int32 labels from 0.

    Args:
      arrays: arrays by name.
      part: train, val or test, or another prefix of two names.
      where: their file, for messages.

    Raises:
      BadInput: an array is missing, empty or of another shape, or a label isn't an integer from 0 to `MAX_CLASSES` − 1.
    """
    x_name, y_name = f"{part}_x", f"{part}_y"
    for name in (x_name, y_name):
        if name not in arrays:
            raise BadInput(f"{where}: array {name} is missing; it has {', '.join(arrays) or 'no arrays'}")
    x, y = arrays[x_name], arrays[y_name]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise BadInput(f"{where}: {y_name} must be [n] integers or names, it is {y.dtype} {list(y.shape)}")
    if x.ndim == 0 or x.size == 0:
        raise BadInput(f"{where}: {x_name} is empty")
    if len(x) != len(y):
        raise BadInput(f"{where}: {x_name} has {len(x)} rows, {y_name} {len(y)}")
    if y.min() < 0:
        raise BadInput(f"{where}: {y_name} has the negative label {y.min()} in row {int(y.argmin())}")
    if y.max() >= MAX_CLASSES:
        raise BadInput(f"{where}: {y_name} has label {y.max()} in row {int(y.argmax())}; labels are 0 to C - 1, C at most {MAX_CLASSES}")
    return Examples(x, y.astype(np.int32))


def finite_float32(x: Real[np.ndarray, "n d"], name: str) -> Float[np.ndarray, "n d"]:
    """Returns features as float32, after checking that all are finite; name: what the message begins with.

    Raises:
      BadInput: a value isn't; the message names its row.
    """
    with np.errstate(over="ignore"):
        x = x.astype(np.float32, copy=False)  # an array mapped from the disk stays there
    rows = max(1, CHUNK_FLOATS // max(1, x.shape[1]))
    for first in range(0, len(x), rows):
        finite = np.isfinite(x[first : first + rows]).all(1)
        if not finite.all():
            row = first + int(finite.argmin())
            raise BadInput(f"{name} has a value that is NaN, infinite or beyond float32 in row {row}")
    return x


def _listed_names(arrays, where):
    """Returns the names in the array class_names [C], or None without it."""
    if "class_names" not in arrays:
        return None
    names = arrays["class_names"]
    if names.ndim != 1:
        raise BadInput(f"{where}: class_names must be [C], it is {list(names.shape)}")
    return tuple(normal(name) for name in names.tolist())


def class_names(arrays: Mapping[str, np.ndarray], train_y: Int[np.ndarray, " n"], where: str | Path, say: Say = warn) -> tuple[str, ...]:
    """Returns the names of the classes: those in the array class_names [C], made unique (`told_apart`), or the numbers from 0 on.

    Args:
      arrays: arrays by name.
      train_y: labels of the training examples, the largest of which counts the classes if there is no class_names.
      where: the arrays' file, for messages.
      say: reports names that several classes share.

    Raises:
      BadInput: class_names has another shape.
    """
    names = _listed_names(arrays, where)
    return tuple(str(c) for c in range(int(train_y.max()) + 1)) if names is None else told_apart(names, f"{where}: class_names", say)


def check_labels(parts: dict[str, Int[np.ndarray, " _"]], class_names: tuple[str, ...], where: str | Path) -> None:
    """Checks that labels lie within the classes, and that train has every class.

    Args:
      parts: labels of each part, train among them.
      class_names: names of the classes.
      where: the labels' file, for messages.

    Raises:
      BadInput: they don't; the message names the part and the label.
    """
    classes = len(class_names)
    if min(y.min() for y in parts.values()) == 1:
        raise BadInput(f"{where}: labels start at 1, they must be integers from 0; subtract 1 from all of them")
    for part, y in parts.items():
        if y.max() >= classes:
            raise BadInput(f"{where}: {part}_y has label {y.max()}, but there are {classes} classes (0 to {classes - 1})")
    if classes < 2:
        raise BadInput(f"{where}: only one class; a classifier needs at least two")
    counts = np.bincount(parts["train"], minlength=classes)
    if counts.min() == 0:
        empty = int(counts.argmin())
        raise BadInput(f"{where}: class {empty} ({class_names[empty]}) has no example in train_y")
