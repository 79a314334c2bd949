"""Makes a FeatureSet of files or arrays, after checking every array.

Arrays: train_x [n, d] numbers, train_y [n] integers or names, test_x, test_y, optionally val_x, val_y, class_names [C], and what else is
known (`descriptions.py`): class_embeddings [C, m] and unlabelled_x [u, d]. They come from an npz file, a folder with one npy file for each,
Parquet files (`mmn_jax.data.parquet`), or memory.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from mmn_jax.data.array_files import NAMES, read_npy_folder, read_npz_parts
from mmn_jax.data.checks import check_labels, class_names, finite_float32, labelled, numbered
from mmn_jax.data.descriptions import knowledge
from mmn_jax.data.parquet import read_parquet
from mmn_jax.data.parquet_files import Columns, is_parquet
from mmn_jax.data.repeats import tell_repeats
from mmn_jax.errors import BadInput, Say, warn
from mmn_jax.types import Examples, FeatureSet

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


def _examples(arrays, part, path, say):
    """Returns the Examples of a part with float32 features, all of them finite."""
    x, y = labelled(arrays, part, path)
    if x.ndim != 2 or x.dtype.kind not in "fiu":
        raise BadInput(f"{path}: {part}_x must be [n, d] numbers, it is {x.dtype} {list(x.shape)}")
    if part == "train":
        _report_far(x, path, say)
    return Examples(finite_float32(x, f"{path}: {part}_x"), y)


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
    arrays = {name: array for name, array in read_arrays(path, columns, say).items() if not name.startswith("test_")}
    return assemble(arrays, Path(path).absolute().stem, path, say, needs_test=False)


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
