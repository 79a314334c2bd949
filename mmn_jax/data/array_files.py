"""Arrays by name from files of numpy: an npz file, or a folder with an npy file each; pickled ones are refused, never loaded."""

import re
import zipfile
from pathlib import Path

import numpy as np

from mmn_jax.data.parts import by_part, is_data, part_of, unused, visible
from mmn_jax.errors import BadInput, Say, warn

NAMES = ("train_x", "train_y", "val_x", "val_y", "test_x", "test_y", "class_names")


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


def canonical(name: str) -> str:
    """The array's name with its part in the usual spelling: val_x of Valid_x; any other name as it is."""
    found = re.fullmatch(r"([A-Za-z]+)_([xy])", name)
    part = part_of(found[1]) if found else None
    return f"{part}_{found[2]}" if found and part else name


def _spelled(names, where):
    """canonical name → the name that is there.

    Raises:
      BadInput: two names of one array, such as val_x and valid_x.
    """
    return by_part(((canonical(name), name) for name in names), where)


def read_npy_folder(path: str | Path, say: Say = warn) -> dict[str, np.ndarray]:
    """The arrays of a folder, train_x.npy and so on, mapped from the disk and not read; pickled ones are refused.

    Raises:
      BadInput: none of them is there, two are the same one, or one is damaged.
    """
    path, arrays = Path(path), {}
    there = visible(path)
    spelled = _spelled([each.stem for each in there if each.suffix == ".npy"], path)
    for name in (name for name in NAMES if name in spelled):
        file = path / f"{spelled[name]}.npy"
        try:
            arrays[name] = np.load(file, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # a damaged header, as in an npz file
            raise BadInput(f"{file}: not an npy file of plain numbers or strings, or damaged; write it with numpy.save") from error
    if not arrays:
        raise BadInput(f"{path}: neither npy nor Parquet files in it; it must hold train_x.npy, train_y.npy, test_x.npy and test_y.npy")
    others = [each.name for each in there if is_data(each) and canonical(each.stem) not in arrays]
    if others:
        say(f"{path}: not used: {unused(others)}")
    return arrays


def read_npz_parts(path: str | Path, known: tuple[str, ...], say: Say) -> dict[str, np.ndarray]:
    """The arrays of an npz file, their parts in the usual spelling; says which aren't among the known ones.

    Raises:
      BadInput: what `read_npz` refuses, or two arrays that are the same one, such as val_x and valid_x.
    """
    arrays = read_npz(path)
    spelled = _spelled(arrays, path)
    others = [name for name in arrays if canonical(name) not in known]
    if others and len(others) < len(arrays):  # else something is missing, which is said
        say(f"{path}: not used: {unused(others)}")
    return {name: arrays[here] for name, here in spelled.items()}
