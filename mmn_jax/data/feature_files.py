"""Features from files or arrays → FeatureSet, every array checked before it is used.

Arrays: train_x [n, d] float, train_y [n] int, test_x, test_y, optionally val_x, val_y, class_names [C]. They come from an npz file,
a folder with an npy file each, Parquet files (mmn_jax/data/parquet.py), or memory.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmn_jax.data.parquet import Columns, read_parquet
from mmn_jax.types import BadInput, Examples, FeatureSet

NAMES = ("train_x", "train_y", "val_x", "val_y", "test_x", "test_y", "class_names")
MAX_CLASSES = 2**20  # a larger label is an identifier, not a class index


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file by name; pickled ones are refused, never loaded.

    Raises:
      BadInput: no such file, not an npz file, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise BadInput(f"{path}: not an npz file; write it with numpy.savez, or give Parquet or a folder of npy files")
    arrays, name = {}, None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:  # numpy leaves a damaged one open
            for name in archive.files:
                arrays[name] = archive[name]
    except Exception as error:  # a damaged header fails in as many ways as Python has of parsing one
        what = "file" if name is None else f"array {name}"
        raise BadInput(f"{path}: {what} {_reason(error)}") from error
    foreign = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise BadInput(f"{path}: {foreign[0]} is not an array; write the file with numpy.savez")
    return arrays


def _reason(error):
    if "pickle" in str(error):
        return "holds Python objects, which are never loaded; save plain numbers or strings"
    return "doesn't fit into memory" if isinstance(error, MemoryError) else "is damaged"


def read_npy_folder(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a folder, train_x.npy and so on, mapped from the disk and not read; pickled ones are refused.

    Raises:
      BadInput: none of them is there, or one is damaged.
    """
    arrays = {}
    for name in NAMES:
        file = Path(path) / f"{name}.npy"
        if not file.is_file():
            continue
        try:
            arrays[name] = np.load(file, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # a damaged header, as in an npz file
            raise BadInput(f"{file}: not an npy file of plain numbers or strings, or damaged; write it with numpy.save") from error
    if not arrays:
        raise BadInput(f"{path}: neither npy nor Parquet files in it; it must hold train_x.npy, train_y.npy, test_x.npy and test_y.npy")
    return arrays


def read_arrays(path: str | Path, columns: Columns = Columns()) -> dict[str, np.ndarray]:  # noqa: B008 - a NamedTuple cannot change
    """All arrays by name: of an npz file, a folder of npy files, a Parquet file or a folder of them; columns: what Parquet calls them.

    Raises:
      BadInput: what one of its readers refuses.
    """
    path = Path(path)
    if path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet"))):
        if not path.exists():
            raise BadInput(f"{path}: no such file")
        return read_parquet(path, columns)
    if path.suffix == ".npy":
        raise BadInput(f"{path}: a single npy file; give the folder with train_x.npy, train_y.npy, test_x.npy and test_y.npy")
    return read_npy_folder(path) if path.is_dir() else read_npz(path)


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
        hint = "; class_names, train_y = numpy.unique(labels, return_inverse=True) makes them of names" if y.dtype.kind in "USO" else ""
        raise BadInput(f"{where}: {y_name} must be [n] integers, it is {y.dtype} {list(y.shape)}{hint}")
    if x.ndim == 0 or x.size == 0:
        raise BadInput(f"{where}: {x_name} is empty")
    if len(x) != len(y):
        raise BadInput(f"{where}: {x_name} has {len(x)} rows, {y_name} {len(y)}")
    if y.min() < 0:
        raise BadInput(f"{where}: {y_name} has the negative label {y.min()} in row {int(y.argmin())}")
    if y.max() >= MAX_CLASSES:
        raise BadInput(f"{where}: {y_name} has label {y.max()} in row {int(y.argmax())}; labels are 0 to C - 1, C at most {MAX_CLASSES}")
    return Examples(x, y.astype(np.int32))


def _examples(arrays, part, path):
    x, y = labelled(arrays, part, path)
    if x.ndim != 2 or x.dtype.kind not in "fiu":
        raise BadInput(f"{path}: {part}_x must be [n, d] numbers, it is {x.dtype} {list(x.shape)}")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32, copy=False)  # an array mapped from the disk stays there
    if not np.isfinite(x).all():
        row = int(np.argmin(np.isfinite(x).all(1)))
        raise BadInput(f"{path}: {part}_x has a value that is NaN, infinite or beyond float32 in row {row}")
    return Examples(x, y)


def class_names(arrays: dict[str, np.ndarray], train_y: np.ndarray, path: str | Path) -> tuple[str, ...]:
    """Those of the array class_names [C], or the numbers of the classes that train_y [n] has.

    Raises:
      BadInput: the array has another shape.
    """
    if "class_names" not in arrays:
        return tuple(str(c) for c in range(int(train_y.max()) + 1))
    names = arrays["class_names"]
    if names.ndim != 1:
        raise BadInput(f"{path}: class_names must be [C], it is {list(names.shape)}")
    return tuple(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names.tolist())


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


def assemble(arrays: dict[str, np.ndarray], name: str, where: str | Path) -> FeatureSet:
    """A FeatureSet from arrays by name; where: what an error names as their place.

    Raises:
      BadInput: naming the place, the array and what is wrong with it.
    """
    train, test = (_examples(arrays, part, where) for part in ("train", "test"))
    has_val = "val_x" in arrays or "val_y" in arrays
    val = _examples(arrays, "val", where) if has_val else None
    return check(FeatureSet(name, train, val, test, class_names(arrays, train.y, where)), where)


def from_arrays(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    val_x: np.ndarray | None = None,
    val_y: np.ndarray | None = None,
    class_names: tuple[str, ...] | None = None,
    name: str = "arrays",
) -> FeatureSet:
    """A FeatureSet from arrays in memory: x [n, d], y [n] integers from 0, class_names [C].

    Raises:
      BadInput: naming the array and what is wrong with it.
    """
    given = zip(NAMES, (train_x, train_y, val_x, val_y, test_x, test_y, class_names), strict=True)
    return assemble({key: np.asarray(value) for key, value in given if value is not None}, name, name)


def load(path: str | Path, columns: Columns = Columns()) -> FeatureSet:  # noqa: B008 - a NamedTuple cannot change
    """A FeatureSet from whatever `read_arrays` reads.

    Raises:
      BadInput: naming the file, the array or column and what is wrong with it.
    """
    return assemble(read_arrays(path, columns), Path(path).absolute().stem, path)


def load_training(path: str | Path, columns: Columns = Columns()) -> Examples:  # noqa: B008 - a NamedTuple cannot change
    """train_x and train_y alone of whatever `read_arrays` reads.

    Raises:
      BadInput: naming the file, the array and what is wrong with it.
    """
    return _examples(read_arrays(path, columns), "train", path)


def fingerprint(features: FeatureSet) -> str:
    """SHA-256 of everything in the set, so that an artefact made from other data is never taken for this one's."""
    digest = hashlib.sha256(repr(features.class_names).encode())
    for part in (features.train, features.val, features.test):
        for array in part or ():
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
