"""Makes a FeatureSet of files or arrays, after checking every array.

Arrays: train_x [n, d] numbers, train_y [n] integers or names, test_x, test_y, optionally val_x, val_y, class_names [C], and what else is
known (`descriptions.py`): class_embeddings [C, m] and unlabelled_x [u, d]. They come from an npz file, a folder with one npy file for each,
Parquet files (`mmn_jax.data.parquet`), or memory.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from mmn_jax.data.array_files import NAMES, read_npy_folder, read_npz_parts
from mmn_jax.data.descriptions import knowledge
from mmn_jax.data.labels import coded, is_text, meet, normal, told_apart
from mmn_jax.data.parquet import read_parquet
from mmn_jax.data.parquet_files import Columns, is_parquet
from mmn_jax.data.repeats import tell_repeats
from mmn_jax.errors import BadInput, Say, warn
from mmn_jax.types import Examples, FeatureSet

MAX_CLASSES = 2**20  # a larger label is an identifier, not a class index
CHUNK_FLOATS = 2**22  # checked at once
FAR_ROWS = 4096  # rows that are used to find columns far from 0


def read_arrays(
    path: str | Path,
    columns: Columns = Columns(),  # noqa: B008 - a NamedTuple cannot change
    say: Say = warn,
    undivided: str | None = None,
) -> dict[str, np.ndarray]:
    """Reads all arrays of an npz file, a folder of npy files, a Parquet file or a folder of Parquet files, by name.

    Args:
      path: the file or folder.
      columns: names of the columns of Parquet files.
      say: reports what is doubtful or not used.
      undivided: the part of Parquet rows where neither a column nor a name says parts; None to refuse such files.

    Raises:
      BadInput: the file or folder can't be read; the message begins with its path.
    """
    path = Path(path)
    if is_parquet(path, NAMES):
        if not path.exists():
            raise BadInput(f"{path}: no such file")
        return read_parquet(path, columns, say, undivided)
    if path.suffix == ".npy":
        raise BadInput(f"{path}: a single npy file; give the folder with train_x.npy, train_y.npy, test_x.npy and test_y.npy")
    return read_npy_folder(path, say) if path.is_dir() else read_npz_parts(path, NAMES, say)


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


def _examples(arrays, part, path, say):
    """Returns the Examples of a part with float32 features, all of them finite."""
    x, y = labelled(arrays, part, path)
    if x.ndim != 2 or x.dtype.kind not in "fiu":
        raise BadInput(f"{path}: {part}_x must be [n, d] numbers, it is {x.dtype} {list(x.shape)}")
    if part == "train":
        _report_far(x, path, say)
    with np.errstate(over="ignore"):
        x = x.astype(np.float32, copy=False)  # an array mapped from the disk stays there
    rows = max(1, CHUNK_FLOATS // x.shape[1])
    for first in range(0, len(x), rows):
        finite = np.isfinite(x[first : first + rows]).all(1)
        if not finite.all():
            row = first + int(finite.argmin())
            raise BadInput(f"{path}: {part}_x has a value that is NaN, infinite or beyond float32 in row {row}")
    return Examples(x, y)


def _report_far(x, path, say):
    """Reports a column of training features that lies so far from 0 that float32 can hardly distinguish its values."""
    if (x.dtype.itemsize <= 4 and x.dtype.kind == "f") or x.dtype.itemsize <= 2 or not x.size:
        return
    some = x[:: max(1, len(x) // FAR_ROWS)].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(some).max(0)
        far = np.flatnonzero((np.ptp(some, 0) > 1e-12 * size) & (some.std(0) < 10 * np.finfo(np.float32).eps * size))
    if len(far):
        fact = f"column {far[0]} lies around {some[:, far[0]].mean():.6g} and varies by {some[:, far[0]].std():.2g}"
        more = f" (and {len(far) - 1} more)" if len(far) > 1 else ""
        say(f"{path}: train_x: {fact}, too little for float32{more}; subtract a constant from it in all parts")


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


def check(features: FeatureSet, where: str | Path) -> FeatureSet:
    """Checks that the parts of a set fit together: one d, labels within the classes, every class in train.

    Args:
      features: the set.
      where: its file, for messages.

    Returns:
      The set.

    Raises:
      BadInput: they don't; the message names the part.
    """
    parts = {"train": features.train, "test": features.test, "val": features.val}
    given = {part: examples for part, examples in parts.items() if examples is not None}
    dim = features.train.x.shape[1]
    for part, examples in given.items():
        if examples.x.shape[1] != dim:
            raise BadInput(f"{where}: train_x has {dim} dimensions, {part}_x {examples.x.shape[1]}; make both in the same way")
    check_labels({part: examples.y for part, examples in given.items()}, features.class_names, where)
    return features


def assemble(arrays: Mapping[str, np.ndarray], name: str, where: str | Path, say: Say = warn, needs_test: bool = True) -> FeatureSet:
    """Makes a FeatureSet of arrays by name.

    Args:
      arrays: train_x, train_y, test_x, test_y, optionally val_x, val_y and class_names.
      name: the name of the set.
      where: the arrays' file, for messages.
      say: reports what is doubtful.
      needs_test: whether test examples must be there.

    Raises:
      BadInput: an array can't be used; the message says which and why.
    """
    arrays = numbered(arrays, where)
    train = _examples(arrays, "train", where, say)
    there = {part: needed or f"{part}_x" in arrays or f"{part}_y" in arrays for part, needed in (("test", needs_test), ("val", False))}
    others = {part: _examples(arrays, part, where, say) for part, given in there.items() if given}
    features = FeatureSet(name, train, others.get("val"), others.get("test"), class_names(arrays, train.y, where, say))
    check(features, where)
    features = features._replace(knowledge=knowledge(arrays, len(features.class_names), train.x.shape[1], where, say))
    named = {f"{part}_x": examples for part, examples in others.items()}
    tell_repeats(train, named, lambda label: features.class_names[label], lambda line: say(f"{where}: {line}"))
    return features


def from_arrays(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    val_x: ArrayLike | None = None,
    val_y: ArrayLike | None = None,
    class_names: ArrayLike | Sequence[str] | None = None,
    class_embeddings: ArrayLike | None = None,
    unlabelled_x: ArrayLike | None = None,
    name: str = "arrays",
    say: Say = warn,
) -> FeatureSet:
    """Makes a FeatureSet of arrays in memory.

    Args:
      train_x: [n, d] features of the training examples, finite numbers.
      train_y: [n] their labels, integers from 0 or names.
      test_x: features of the test examples.
      test_y: their labels.
      val_x: features of the validation examples, if there are any.
      val_y: their labels.
      class_names: [C] names of the classes; by default the labels themselves.
      class_embeddings: [C, m] descriptions of the classes in any space, in their order; zeros for a class without one.
      unlabelled_x: [u, d] features of examples without labels.
      name: the name of the set, with which messages begin.
      say: reports what is doubtful.

    Raises:
      BadInput: an array can't be used; the message says which and why.
    """
    others = class_names, class_embeddings, unlabelled_x
    given = zip(NAMES, (train_x, train_y, val_x, val_y, test_x, test_y, *others), strict=True)
    return assemble({key: np.asarray(value) for key, value in given if value is not None}, name, name, say)


def load(
    path: str | Path,
    columns: Columns = Columns(),  # noqa: B008 - a NamedTuple cannot change
    say: Say = warn,
    needs_test: bool = True,
) -> FeatureSet:
    """Reads a FeatureSet from a file or folder.

    Args:
      path: an npz file, a folder of npy files, a Parquet file or a folder of Parquet files.
      columns: names of the columns of Parquet files.
      say: reports what is doubtful or not used.
      needs_test: whether test examples must be there; if not, Parquet rows without parts are training examples.

    Raises:
      BadInput: the file can't be used; the message names the file and the array or column, and says why.
    """
    arrays = read_arrays(path, columns, say, None if needs_test else "train")
    return assemble(arrays, Path(path).absolute().stem, path, say, needs_test)


def load_training(path: str | Path, columns: Columns = Columns(), say: Say = warn) -> Examples:  # noqa: B008 - a NamedTuple cannot change
    """Reads the training examples alone from a file or folder.

    Args:
      path: an npz file, a folder of npy files, a Parquet file or a folder of Parquet files.
      columns: names of the columns of Parquet files.
      say: reports what is doubtful or not used.

    Raises:
      BadInput: the file can't be used; the message names the file and the array or column, and says why.
    """
    train = _examples(numbered(read_arrays(path, columns, say), path, ("train",)), "train", path, say)
    tell_repeats(train, {}, str, lambda line: say(f"{path}: {line}"))
    return train


def load_to_fit(
    path: str | Path,
    columns: Columns = Columns(),  # noqa: B008 - a NamedTuple cannot change
    say: Say = warn,
) -> FeatureSet:
    """Reads what a classifier is fitted to from a file or folder, whose test examples are neither needed nor read.

    Args:
      path: an npz file, a folder of npy files, a Parquet file or a folder of Parquet files.
      columns: names of the columns of Parquet files.
      say: reports what is doubtful or not used.

    Returns:
      The set without test examples.

    Raises:
      BadInput: the file can't be used; the message names the file and the array or column, and says why.
    """
    arrays = numbered(read_arrays(path, columns, say), path, ("train", "val"))
    train = _examples(arrays, "train", path, say)
    val = _examples(arrays, "val", path, say) if "val_x" in arrays or "val_y" in arrays else None
    names = class_names(arrays, train.y, path, say)
    features = check(FeatureSet(Path(path).stem, train, val, None, names), path)
    tell_repeats(train, {} if val is None else {"val_x": val}, lambda label: names[label], lambda line: say(f"{path}: {line}"))
    return features._replace(knowledge=knowledge(arrays, len(names), train.x.shape[1], path, say))


def fingerprint(features: FeatureSet) -> str:
    """Hashes everything in the set, so that an artefact made from other data is never taken for this set's."""
    digest = hashlib.sha256(repr(features.class_names).encode())
    if features.test is None:
        digest.update(b"no test set")
    for part in (features.train, features.val, features.test):
        for array in part or ():
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    for field, array in features.knowledge._asdict().items():
        if array is not None:
            digest.update(repr((field, array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
