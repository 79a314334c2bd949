"""Features from files or arrays → FeatureSet, every array checked before it is used.

Arrays: train_x [n, d] float, train_y [n] int, test_x, test_y, optionally val_x, val_y, class_names [C]. They come from an npz file,
a folder with an npy file each, Parquet files (mmn_jax/data/parquet.py), or memory.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmn_jax.data.array_files import NAMES, canonical, read_npy_folder, read_npz_parts
from mmn_jax.data.labels import coded, is_text, meet, normal, told_apart
from mmn_jax.data.parquet import read_parquet
from mmn_jax.data.parquet_files import Columns, is_parquet
from mmn_jax.data.parts import visible
from mmn_jax.data.repeats import tell_repeats
from mmn_jax.errors import BadInput, Say, warn
from mmn_jax.types import Examples, FeatureSet

MAX_CLASSES = 2**20  # a larger label is an identifier, not a class index
CHUNK_FLOATS = 2**22  # looked through at once
FAR_ROWS = 4096  # rows that tell how far from 0 columns lie


def read_arrays(path: str | Path, columns: Columns = Columns(), say: Say = warn) -> dict[str, np.ndarray]:  # noqa: B008 - a NamedTuple cannot change
    """All arrays by name: of an npz file, a folder of npy files, a Parquet file or a folder of them; columns: what Parquet calls them.

    Raises:
      BadInput: what one of its readers refuses.
    """
    path = Path(path)
    if is_parquet(path):
        if not path.exists():
            raise BadInput(f"{path}: no such file")
        if path.is_dir() and any(canonical(each.stem) in NAMES for each in visible(path) if each.suffix == ".npy"):
            raise BadInput(f"{path}: holds both Parquet and npy files, either of which could be meant; keep one kind")
        return read_parquet(path, columns, say)
    if path.suffix == ".npy":
        raise BadInput(f"{path}: a single npy file; give the folder with train_x.npy, train_y.npy, test_x.npy and test_y.npy")
    return read_npy_folder(path, say) if path.is_dir() else read_npz_parts(path, NAMES, say)


def numbered(
    arrays: Mapping[str, np.ndarray], where: str | Path, parts: tuple[str, ...] = ("train", "val", "test")
) -> dict[str, np.ndarray]:
    """The arrays with labels that are names, in any of the parts, mapped to integers: places in class_names, or among the names that
    train has.

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
    """The arrays PART_x [n, ..] as they are and PART_y [n] as int32, from 0 up.

    Raises:
      BadInput: naming the place, the array and what is wrong with it; what PART_x holds isn't looked at.
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
    x, y = labelled(arrays, part, path)
    if x.ndim != 2 or x.dtype.kind not in "fiu":
        raise BadInput(f"{path}: {part}_x must be [n, d] numbers, it is {x.dtype} {list(x.shape)}")
    if part == "train":
        _tell_far(x, path, say)
    with np.errstate(over="ignore"):
        x = x.astype(np.float32, copy=False)  # an array mapped from the disk stays there
    rows = max(1, CHUNK_FLOATS // x.shape[1])
    for first in range(0, len(x), rows):
        finite = np.isfinite(x[first : first + rows]).all(1)
        if not finite.all():
            row = first + int(finite.argmin())
            raise BadInput(f"{path}: {part}_x has a value that is NaN, infinite or beyond float32 in row {row}")
    return Examples(x, y)


def _tell_far(x, path, say):
    """Says which column of training features lies so far from 0 that float32 hardly tells its values apart, though they differ."""
    if (x.dtype.itemsize <= 4 and x.dtype.kind == "f") or x.dtype.itemsize <= 2 or not x.size:
        return
    some = x[:: max(1, len(x) // FAR_ROWS)].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(some).max(0)
        far = np.flatnonzero((np.ptp(some, 0) > 1e-12 * size) & (some.std(0) < 10 * np.finfo(np.float32).eps * size))
    if len(far):
        told = f"column {far[0]} lies around {some[:, far[0]].mean():.6g} and varies by {some[:, far[0]].std():.2g}"
        more = f", and {len(far) - 1} more are alike" if len(far) > 1 else ""
        say(f"{path}: train_x: {told}, which float32 hardly tells apart{more}; subtract a constant from it in all parts")


def _listed_names(arrays, where):
    """The array class_names [C], None where there is none."""
    if "class_names" not in arrays:
        return None
    names = arrays["class_names"]
    if names.ndim != 1:
        raise BadInput(f"{where}: class_names must be [C], it is {list(names.shape)}")
    return tuple(normal(name) for name in names.tolist())


def class_names(arrays: Mapping[str, np.ndarray], train_y: np.ndarray, where: str | Path, say: Say = warn) -> tuple[str, ...]:
    """Those of the array class_names [C], told apart where several classes have one name; or the numbers of the classes that train_y
    [n] has.

    Raises:
      BadInput: the array has another shape.
    """
    names = _listed_names(arrays, where)
    return tuple(str(c) for c in range(int(train_y.max()) + 1)) if names is None else told_apart(names, f"{where}: class_names", say)


def check_labels(parts: dict[str, np.ndarray], class_names: tuple[str, ...], where: str | Path) -> None:
    """Labels [n] of every part, train among them, lie within the classes, and every class is in train.

    Raises:
      BadInput: naming the place, the part and the label.
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
    """The features themselves, whose parts fit together: one d, labels within the classes, every class in train.

    Raises:
      BadInput: they do not, naming what doesn't.
    """
    parts = {"train": features.train, "test": features.test, "val": features.val}
    given = {part: examples for part, examples in parts.items() if examples is not None}
    dim = features.train.x.shape[1]
    for part, examples in given.items():
        if examples.x.shape[1] != dim:
            raise BadInput(f"{where}: train_x has {dim} dimensions, {part}_x {examples.x.shape[1]}; make both by the same steps")
    check_labels({part: examples.y for part, examples in given.items()}, features.class_names, where)
    return features


def assemble(arrays: Mapping[str, np.ndarray], name: str, where: str | Path, say: Say = warn) -> FeatureSet:
    """A FeatureSet from arrays by name; where: what an error names as their place.

    Raises:
      BadInput: naming the place, the array and what is wrong with it.
    """
    arrays = numbered(arrays, where)
    train, test = (_examples(arrays, part, where, say) for part in ("train", "test"))
    has_val = "val_x" in arrays or "val_y" in arrays
    val = _examples(arrays, "val", where, say) if has_val else None
    features = check(FeatureSet(name, train, val, test, class_names(arrays, train.y, where, say)), where)
    others = {"test_x": test} | ({} if val is None else {"val_x": val})
    tell_repeats(train, others, lambda label: features.class_names[label], lambda line: say(f"{where}: {line}"))
    return features


def from_arrays(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    val_x: np.ndarray | None = None,
    val_y: np.ndarray | None = None,
    class_names: tuple[str, ...] | None = None,
    name: str = "arrays",
    say: Say = warn,
) -> FeatureSet:
    """A FeatureSet from arrays in memory: x [n, d], y [n] integers from 0, or names, class_names [C]. say: of what is doubtful.

    Raises:
      BadInput: naming the array and what is wrong with it.
    """
    given = zip(NAMES, (train_x, train_y, val_x, val_y, test_x, test_y, class_names), strict=True)
    return assemble({key: np.asarray(value) for key, value in given if value is not None}, name, name, say)


def load(path: str | Path, columns: Columns = Columns(), say: Say = warn) -> FeatureSet:  # noqa: B008 - a NamedTuple cannot change
    """A FeatureSet from whatever `read_arrays` reads; say: of what is doubtful.

    Raises:
      BadInput: naming the file, the array or column and what is wrong with it.
    """
    return assemble(read_arrays(path, columns, say), Path(path).absolute().stem, path, say)


def load_training(path: str | Path, columns: Columns = Columns(), say: Say = warn) -> Examples:  # noqa: B008 - a NamedTuple cannot change
    """train_x and train_y alone of whatever `read_arrays` reads.

    Raises:
      BadInput: naming the file, the array and what is wrong with it.
    """
    train = _examples(numbered(read_arrays(path, columns, say), path, ("train",)), "train", path, say)
    tell_repeats(train, {}, str, lambda line: say(f"{path}: {line}"))
    return train


def fingerprint(features: FeatureSet) -> str:
    """SHA-256 of everything in the set, so that an artefact made from other data is never taken for this one's."""
    digest = hashlib.sha256(repr(features.class_names).encode())
    for part in (features.train, features.val, features.test):
        for array in part or ():
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
