"""Reads named arrays from numpy's files: an npz file, or a folder with one npy file for each. Pickled arrays are refused, never loaded."""

import re
import zipfile
from pathlib import Path

import numpy as np

from mmn_jax.data.parts import by_part, is_data, part_or_pool, unused, visible
from mmn_jax.errors import BadInput, Say, warn

NAMES = ("train_x", "train_y", "val_x", "val_y", "test_x", "test_y", "class_names", "class_embeddings", "unlabelled_x")


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an npz file, by name.

    Raises:
      BadInput: the file is missing, not an npz file or damaged, or holds pickled arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise BadInput(f"{path}: not an npz file; write it with numpy.savez, or give Parquet or a folder of npy files")
    arrays, name = {}, None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:  # numpy itself doesn't close a damaged file
            for name in archive.files:
                arrays[name] = archive[name]
    except Exception as error:  # parsing a damaged header may raise anything
        what = "file" if name is None else f"array {name}"
        raise BadInput(f"{path}: {what} {_reason(error)}") from error
    foreign = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise BadInput(f"{path}: {foreign[0]} is not an array; write the file with numpy.savez")
    return arrays


def _reason(error):
    if "pickle" in str(error):
        return "holds Python objects, which are never loaded; save plain numbers or strings (text by .astype(str))"
    return "doesn't fit into memory" if isinstance(error, MemoryError) else "is damaged"


def canonical(name: str) -> str:
    """Returns an array's name with its part in the usual spelling, such as val_x for Valid_x; other names unchanged."""
    found = re.fullmatch(r"([A-Za-z]+)_([xy])", name)
    part = part_or_pool(found[1]) if found else None
    return f"{part}_{found[2]}" if found and part else name


def _spelled(names, where):
    """Maps canonical names to the names in the file; refuses two names of one array, such as val_x and valid_x."""
    return by_part(((canonical(name), name) for name in names), where)


def read_npy_folder(path: str | Path, say: Say = warn) -> dict[str, np.ndarray]:
    """Opens the arrays of a folder (train_x.npy, ..) as memory maps, by name.

    Args:
      path: the folder.
      say: reports files that aren't used.

    Raises:
      BadInput: none of the arrays is there, two files are the same array, or one is damaged or pickled.
    """
    path, arrays = Path(path), {}
    there = visible(path)
    spelled = _spelled([each.stem for each in there if each.suffix == ".npy"], path)
    for name in (name for name in NAMES if name in spelled):
        file = path / f"{spelled[name]}.npy"
        try:
            arrays[name] = np.load(file, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # parsing a damaged header may raise anything
            raise BadInput(f"{file}: not an npy file of plain numbers or strings, or damaged; write it with numpy.save") from error
    if not arrays:
        raise BadInput(f"{path}: neither npy nor Parquet files in it; it must hold train_x.npy, train_y.npy, test_x.npy and test_y.npy")
    others = [each.name for each in there if is_data(each) and canonical(each.stem) not in arrays]
    if others:
        say(f"{path}: not used: {unused(others)}")
    return arrays


def read_npz_parts(path: str | Path, known: tuple[str, ...], say: Say) -> dict[str, np.ndarray]:
    """Reads the arrays of an npz file, by name, with parts in the usual spelling.

    Args:
      path: the file.
      known: the names that are used.
      say: reports arrays of other names.

    Raises:
      BadInput: `read_npz` refuses the file, or two names are the same array, such as val_x and valid_x.
    """
    arrays = read_npz(path)
    spelled = _spelled(arrays, path)
    others = [name for name in arrays if canonical(name) not in known]
    if others and len(others) < len(arrays):  # if all are unknown, a later message says which arrays are missing
        say(f"{path}: not used: {unused(others)}")
    return {name: arrays[here] for name, here in spelled.items()}
