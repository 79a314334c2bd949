"""Features from an npz file: own_features.npz → FeatureSet, every array checked before it is used.

Arrays: train_x [n, d] float, train_y [n] int, test_x, test_y, optionally val_x, val_y, class_names [C].
"""

import hashlib
import zipfile
import zlib
from pathlib import Path

import numpy as np

from mmn_jax.types import BadInput, Examples, FeatureSet

MAX_CLASSES = 2**20  # a larger label is an identifier, not a class index


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file by name; pickled ones are refused, never loaded."""
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise BadInput(f"{path}: not an npz file; write it with numpy.savez")
    arrays, name = {}, None
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = archive[name]
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        what = "file" if name is None else f"array {name}"
        pickled = "pickle" in str(error)
        reason = "holds Python objects, which are never loaded; save plain numbers or strings" if pickled else "is damaged"
        raise BadInput(f"{path}: {what} {reason}") from error
    foreign = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise BadInput(f"{path}: {foreign[0]} is not an array; write the file with numpy.savez")
    return arrays


def _examples(arrays, part, path):
    x_name, y_name = f"{part}_x", f"{part}_y"
    for name in (x_name, y_name):
        if name not in arrays:
            raise BadInput(f"{path}: array {name} is missing; it has {', '.join(arrays) or 'no arrays'}")
    x, y = arrays[x_name], arrays[y_name]
    if x.ndim != 2 or y.ndim != 1:
        raise BadInput(f"{path}: {x_name} must be [n, d] and {y_name} [n], they are {list(x.shape)} and {list(y.shape)}")
    if len(x) != len(y):
        raise BadInput(f"{path}: {x_name} has {len(x)} rows, {y_name} {len(y)}")
    if len(x) == 0 or x.shape[1] == 0:
        raise BadInput(f"{path}: {x_name} is empty")
    if not np.issubdtype(y.dtype, np.integer):
        raise BadInput(f"{path}: {y_name} must hold integers, it holds {y.dtype}")
    if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
        raise BadInput(f"{path}: {x_name} must hold numbers, it holds {x.dtype}")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        row = int(np.argmin(np.isfinite(x).all(1)))
        raise BadInput(f"{path}: {x_name} has a value that is NaN, infinite or beyond float32 in row {row}")
    if y.min() < 0:
        raise BadInput(f"{path}: {y_name} has the negative label {y.min()} in row {int(y.argmin())}")
    if y.max() >= MAX_CLASSES:
        raise BadInput(f"{path}: {y_name} has label {y.max()} in row {int(y.argmax())}; labels are 0 to C - 1, C at most {MAX_CLASSES}")
    return Examples(x, y.astype(np.int32))


def _class_names(arrays, train, path):
    if "class_names" not in arrays:
        return tuple(str(c) for c in range(int(train.y.max()) + 1))
    names = arrays["class_names"]
    if names.ndim != 1:
        raise BadInput(f"{path}: class_names must be [C], it is {list(names.shape)}")
    return tuple(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names.tolist())


def check(name: str, parts: dict[str, Examples | None], class_names: tuple[str, ...], where: str | Path) -> FeatureSet:
    """A FeatureSet whose parts fit together: one d, labels within the classes, every class in train."""
    classes = len(class_names)
    dim = parts["train"].x.shape[1]
    for part, examples in parts.items():
        if examples is None:
            continue
        if examples.x.shape[1] != dim:
            raise BadInput(f"{where}: train_x has {dim} dimensions, {part}_x {examples.x.shape[1]}")
        if examples.y.max() >= classes:
            raise BadInput(f"{where}: {part}_y has label {examples.y.max()}, but there are {classes} classes (0 to {classes - 1})")
    if classes < 2:
        raise BadInput(f"{where}: only one class; a classifier needs at least two")
    counts = np.bincount(parts["train"].y, minlength=classes)
    if counts.min() == 0:
        empty = int(counts.argmin())
        raise BadInput(f"{where}: class {empty} ({class_names[empty]}) has no example in train_y")
    return FeatureSet(name, parts["train"], parts["val"], parts["test"], class_names)


def load_training(path: str | Path) -> Examples:
    """train_x and train_y alone of an npz file.

    Raises:
      BadInput: naming the file, the array and what is wrong with it.
    """
    return _examples(read_npz(path), "train", path)


def load_npz(path: str | Path) -> FeatureSet:
    """A FeatureSet from an npz file.

    Raises:
      BadInput: naming the file, the array and what is wrong with it.
    """
    arrays = read_npz(path)
    parts = {part: _examples(arrays, part, path) for part in ("train", "test")}
    has_val = "val_x" in arrays or "val_y" in arrays
    parts["val"] = _examples(arrays, "val", path) if has_val else None
    return check(Path(path).stem, parts, _class_names(arrays, parts["train"], path), path)


def fingerprint(features: FeatureSet) -> str:
    """SHA-256 of everything in the set, so that an artefact made from other data is never taken for this one's."""
    digest = hashlib.sha256(repr(features.class_names).encode())
    for part in (features.train, features.val, features.test):
        for array in part or ():
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
