"""Maps the labels of several files, parts or arguments to the same classes, by name, and refuses labels that can't be matched.

Names are compared in Unicode's composed form (NFC), so that é is one letter however a system wrote it.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer, Shaped
from numpy.typing import ArrayLike

from mmn_jax.errors import BadInput, Say


class Coded(NamedTuple):
    """Labels of one file, or of one part of it.

    codes: integers. names: the name of each code, or None if the labels have no names. listed: whether the names are a list that the file
    keeps beside integer labels, whose order counts; otherwise the labels were text. where: their place, for messages.
    """

    codes: Integer[np.ndarray, " n"]
    names: tuple[str, ...] | None
    listed: bool
    where: str


Names = tuple[str, ...]


def normal(name: str | bytes) -> str:
    """Returns the name in the form in which names are compared."""
    return unicodedata.normalize("NFC", name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name))


def is_text(values: Shaped[np.ndarray, "..."]) -> bool:
    """Returns whether labels are names: text, bytes, or Python's own strings."""
    return values.dtype.kind in "UST" or (values.dtype.kind == "O" and all(isinstance(value, str) for value in values.flat))


def coded(values: Shaped[np.ndarray, " n"], where: str) -> Coded:
    """Splits labels that are integers or text into codes and names; where: their place, for messages."""
    if not is_text(values):
        return Coded(values, None, False, where)
    spelled, codes = np.unique(values.astype(str) if values.dtype.kind == "O" else values, return_inverse=True)
    names, merged = np.unique(np.array([normal(name) for name in spelled.tolist()], str), return_inverse=True)
    return Coded(merged[codes], tuple(names.tolist()), False, where)


def some(names: Sequence[str]) -> str:
    """Returns the first few names, for a message."""
    return ", ".join(names[:3]) + (", .." if len(names) > 3 else "")


def _short(where):
    """Returns a place without its path."""
    return where.rpartition(": ")[2]


def _numeral(name):
    return name.isascii() and name.isdigit() and len(name) < 10 and str(int(name)) == name


def _numbers(names, listed):
    """Returns whether the names are numerals: those from 0 up in order if they are a list, any ones if labels were text."""
    return list(names) == [str(i) for i in range(len(names))] if listed else all(map(_numeral, names))


def _order(train):
    """Returns the names of the classes that train has, or None without names: a list keeps its order, labels that were text are sorted."""
    lists = list(dict.fromkeys(unit.names for unit in train if unit.listed))
    if len(lists) == 1 and all(unit.listed for unit in train):
        return lists[0]
    for names in lists:
        _refuse_shared(names, next(unit.where for unit in train if unit.names == names))
    order = dict.fromkeys(name for names in lists for name in names)
    rest = {name for unit in train if unit.names and not unit.listed for name in unit.names}
    if (order or rest) and _numbers((*order, *rest), bool(order)):
        rest |= {str(code) for unit in train if unit.names is None for code in np.unique(unit.codes).tolist()}
    return (*order, *sorted(rest - set(order))) or None


def _refuse_shared(names, where):
    shared = [name for name, count in Counter(names).items() if count > 1]
    if shared:
        raise BadInput(f"{where} calls two classes {shared[0]!r}, so that labels can't be matched by name; give each class its own")


def _check_range(unit):
    if len(unit.codes) and unit.codes.min() < 0:
        raise BadInput(f"{unit.where} has the negative label {unit.codes.min()} in row {int(unit.codes.argmin())}")
    if len(unit.codes) and unit.codes.max() >= len(unit.names):
        fact = f"label {unit.codes.max()} in row {int(unit.codes.argmax())}"
        raise BadInput(f"{unit.where} has {fact}, but names for 0 to {len(unit.names) - 1} ({some(unit.names)})")


def _mapped(unit, place):
    """Returns the positions [n] of labels with names; place: a function from a name to its position."""
    _check_range(unit)
    table = np.zeros(len(unit.names), np.int64)
    for code in np.unique(unit.codes).tolist():
        table[code] = place(unit.names[code])
    return table[unit.codes]


def _numbered(unit, train):
    """Returns labels [n] with names as integers, if those of train are integers without names."""
    used = [unit.names[code] for code in np.unique(unit.codes).tolist() if 0 <= code < len(unit.names)]
    if not _numbers(unit.names if unit.listed else used, unit.listed):
        what = f"{unit.where} has names ({some(unit.names)}), {_short(train.where)} integers without names"
        raise BadInput(f"{what}; they can't be matched, write names in both")
    return _mapped(unit, int)


def _places(unit, order, train, given):
    """Returns the positions [n] of a unit's labels among the classes; given: whether their order is the user's class_names."""
    if unit.names is None:
        if given or order is None:
            return unit.codes
        if not _numbers(order, train.listed):
            what = f"{unit.where} has integers without names, {_short(train.where)} names ({some(order)})"
            raise BadInput(f"{what}; they can't be matched, write names in both")
        names, codes = np.unique(unit.codes, return_inverse=True)
        unit = Coded(codes, tuple(str(name) for name in names.tolist()), False, unit.where)
    elif order is None:
        return _numbered(unit, train)
    if unit.listed and unit.names == order:
        _check_range(unit)
        return unit.codes
    shared, places = Counter(order), {name: i for i, name in enumerate(order)}

    def place(name):
        if name not in places:
            raise BadInput(f"{unit.where} has the name {name!r}, which {'class_names' if given else 'train'} doesn't have")
        if shared[name] > 1:
            raise BadInput(f"{unit.where} has the name {name!r}, which two classes have; give labels as integers, or each class its own")
        return places[name]

    return _mapped(unit, place)


def _refuse_two_meanings(units, given):
    """Refuses integers beside numerals that are text: the former are positions in class_names, the latter names, which may differ."""
    plain = next((unit for unit in units if unit.names is None), None)
    text = next((unit for unit in units if unit.names is not None), None)
    if plain and text and _numbers(given, False) and not _numbers(given, True):
        what = f"{plain.where} has integers, which are places in class_names ({some(given)}), {_short(text.where)} the same as text"
        raise BadInput(f"{what}; they can't be matched, write all labels in one type")


def meet(parts: Mapping[str, Sequence[Coded]], given: Names | None = None) -> tuple[Names | None, dict[str, np.ndarray]]:
    """Maps the labels of all parts to the same classes.

    Args:
      parts: the units of each part, in order.
      given: the user's own list of class names, in which plain integers are positions.

    Returns:
      The names of the classes, or None if labels are plain integers; and the labels [n] of every part as positions among the classes.

    Raises:
      BadInput: labels can't be matched, such as integers in one part and names in another; the message names both.
    """
    train = list(parts.get("train", ()))
    order = given or _order(train)
    reference = next((unit for unit in train if unit.names is not None), train[0] if train else None)
    if reference is None:  # nothing to train on, which is refused later
        return None, {part: np.concatenate([unit.codes for unit in units]) for part, units in parts.items()}
    if given:
        _refuse_two_meanings([unit for units in parts.values() for unit in units], given)
    made = {part: [_places(unit, order, reference, bool(given)) for unit in units] for part, units in parts.items()}
    return order, {part: each[0] if len(each) == 1 else np.concatenate(each) for part, each in made.items()}


def spelled(y: ArrayLike) -> Shaped[np.ndarray, "..."]:
    """Returns labels as an array, text in the form in which names are compared."""
    y = np.asarray(y)
    if not is_text(y):
        return y
    return np.array([normal(name) for name in y.tolist()], object if y.dtype.kind == "O" else str)


def codes_among(classes: Shaped[np.ndarray, " C"], y: Shaped[np.ndarray, " n"], name: str) -> Int[np.ndarray, " n"]:
    """Returns the position (int32) of each label in the sorted classes.

    Args:
      classes: the labels that the argument y has, each once, sorted.
      y: labels of another argument.
      name: that argument, for messages.

    Raises:
      BadInput: a label is not among the classes, or is text where they are numbers.
    """
    y = spelled(y)
    if is_text(y) != is_text(classes):
        kinds = ("text", "numbers") if is_text(y) else ("numbers", "text")
        fact = f"{name}: its labels are {kinds[0]}, such as {y.tolist()[0]!r}, those of y are {kinds[1]}, such as {classes.tolist()[0]!r}"
        raise BadInput(f"{fact}; give both in one type")
    unknown = ~np.isin(y, classes)
    if unknown.any():
        raise BadInput(f"{name}: label {y[unknown].tolist()[0]!r} is not in y")
    return np.searchsorted(classes, y).astype(np.int32)


def _with_number(name, i):
    return f"{name} (class {i})"


def told_apart(names: Names, where: str, say: Say) -> Names:
    """Makes names unique: adds the number of the class to each name that several classes have, and reports that in one line.

    Args:
      names: the names of the classes.
      where: their place, for the message.
      say: takes the message.
    """
    counts = Counter(names)
    shared = [name for name, count in counts.items() if count > 1]
    if not shared:
        return names
    apart = tuple(_with_number(name, i) if counts[name] > 1 else name for i, name in enumerate(names))
    classes = [i for i, name in enumerate(names) if name == shared[0]]
    others = len(shared) - 1
    more = f" (and those of {others} more name{'s' if others > 1 else ''})" if others else ""
    say(f"{where}: classes {some([str(i) for i in classes])} have one name, {shared[0]!r}{more}; they are called {apart[classes[0]]!r}, ..")
    return told_apart(apart, where, lambda line: None)


def numbered_names(names: Names) -> Names:
    """Returns the names that end with the number of their class, as `told_apart` adds it."""
    return tuple(name for i, name in enumerate(names) if name.endswith(_with_number("", i)))


def check_labelled(y: object) -> None:
    """Raises BadInput for the first of several labels that is None."""
    if isinstance(y, (list, tuple, np.ndarray)) and (missing := [row for row, label in enumerate(y) if label is None]):
        raise BadInput(f"y: row {missing[0]} has no label; leave such examples out, and give them as X_unlabelled")
