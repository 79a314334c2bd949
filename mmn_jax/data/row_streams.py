"""Streams the rows of features to classify in chunks, with their ids, from every form that training reads; they may be larger than memory.

An npz file or a folder of npy files holds x [n, d] (or test_x), and perhaps ids in an array [n]; an npy file or the standard input is one
array; Parquet files hold lists of numbers in a column (`mmn_jax.data.parquet`).
"""

import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from mmn_jax.data.array_files import canonical
from mmn_jax.data.parquet import stream_rows
from mmn_jax.data.parquet_files import Columns, find_rows, is_parquet
from mmn_jax.data.parts import visible
from mmn_jax.errors import BadInput, Say

PREFERRED = ("x", "test_x")  # names of the features to classify


class Chunk(NamedTuple):
    """Consecutive rows. first: the number of the first one. x: their features. ids: their ids, integers or text; None without ids."""

    first: int
    x: Float[np.ndarray, "n d"]
    ids: Sequence[int | str] | None


class RowStream(NamedTuple):
    """The rows of a file. rows: how many. name: what messages call them. chunks: reads them once, in chunks of so many rows."""

    rows: int
    name: str
    chunks: Callable[[int], Iterator[Chunk]]


class _Array(NamedTuple):
    """A stream over the rows of an array; fortran: whether it is in Fortran order. name: what messages call it."""

    stream: IO[bytes]
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    name: str


def open_rows(stack: ExitStack, path: str, dim: int, id_name: str | None, columns: Columns, say: Say) -> RowStream:
    """Opens the features of a file or folder and checks their shape; no row is read yet.

    Args:
      stack: closes the files.
      path: an npz or npy file, a folder of npy files, a Parquet file or a folder of them, or - for an npy on the
        standard input.
      dim: the d that the classifier needs.
      id_name: the array or the Parquet column of the ids; None for none.
      columns: names of the columns of Parquet files.
      say: reports files that aren't used.

    Raises:
      BadInput: the file isn't there, or doesn't hold rows [n, dim] of numbers and as many ids; the message begins with path or id_name.
    """
    place = Path(path)
    if path != "-" and place.exists() and is_parquet(place, PREFERRED):
        return _parquet(place, dim, id_name, columns, say)
    x, ids = _in_folder(stack, place, id_name) if path != "-" and place.is_dir() else _in_file(stack, path, id_name)
    return _arrays(x, ids, dim)


def _parquet(path, dim, id_name, columns, say):
    """Opens a Parquet file or folder."""
    shards = find_rows(path, columns, id_name, say)

    def chunks(rows):
        first = 0
        for x, ids in stream_rows(shards, columns, id_name, dim, path, rows):
            yield Chunk(first, _float32(x, first, f"{path}: column {columns.features}"), ids)
            first += len(x)

    return RowStream(sum(shard.count("test") for shard in shards), str(path), chunks)


def _in_file(stack, path, id_name):
    """Opens an .npy file or members of an npz file; returns the arrays of features and ids."""
    try:
        if path == "-" or not zipfile.is_zipfile(path):
            if id_name is not None:
                raise BadInput(f"{path}: is a single array, without ids called {id_name}; give npz, Parquet or a folder of npy files")
            return _header(sys.stdin.buffer if path == "-" else _opened(stack, path), path), None
        archive = stack.enter_context(zipfile.ZipFile(path))
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        openers = {name: partial(_member, stack, archive, member) for name, member in members.items()}
        return _chosen(openers, id_name, path, "write it with numpy.savez(FILE, x=features)")
    except (OSError, RuntimeError) as error:  # RuntimeError: encrypted, or compressed in an unknown way
        raise BadInput(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _member(stack, archive, name):
    return stack.enter_context(archive.open(name))


def _in_folder(stack, path, id_name):
    """Opens npy files of a folder; returns the arrays of features and ids."""
    files = {file.stem: partial(_opened, stack, file) for file in visible(path) if file.suffix == ".npy"}
    return _chosen(files, id_name, path, "write it with numpy.save")


def _opened(stack, path):
    try:
        return stack.enter_context(open(path, "rb"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error


def _chosen(openers, id_name, path, advice):
    """Opens the arrays of features and ids among those of a file or folder; openers: by name, functions that open the streams."""
    spelled = {canonical(name): name for name in openers}
    found = [spelled[name] for name in PREFERRED if name in spelled]
    if not found:
        raise BadInput(f"{path}: has neither x nor test_x; {advice}")
    if id_name is not None and id_name not in openers:
        raise BadInput(f"{path}: has no array {id_name} for the ids; it has {', '.join(openers)}")
    return tuple(None if name is None else _header(openers[name](), f"{path}: {name}") for name in (found[0], id_name))


def _header(stream, name):
    """Reads the header of an array."""
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return _Array(stream, *read(stream), name)
    except Exception as error:  # numpy evaluates the header, so a damaged one may raise anything
        raise BadInput(f"{name}: not a numpy array; write it with numpy.save, or into an npz file with numpy.savez") from error


def _arrays(x, ids, dim):
    """Returns the rows of an array of features and an array of ids, after checking their types and shapes."""
    if x.dtype.kind not in "fiu":
        raise BadInput(f"{x.name}: must hold numbers, it holds {x.dtype}")
    if len(x.shape) != 2 or x.shape[1] != dim:
        raise BadInput(f"{x.name}: must be [n, {dim}] for this model, it is {list(x.shape)}")
    if ids is not None and (ids.dtype.kind not in "iuUS" or ids.shape != x.shape[:1]):
        raise BadInput(f"{ids.name}: ids must be [{x.shape[0]}] integers or text, they are {ids.dtype} {list(ids.shape)}")

    def chunks(rows):
        given = None if ids is None else _blocks(ids, rows)
        first = 0
        for raw in _blocks(x, rows):
            yield Chunk(first, _float32(raw, first, x.name), None if given is None else _as_ids(next(given)))
            first += len(raw)

    return RowStream(x.shape[0], x.name, chunks)


def _as_ids(values: Shaped[np.ndarray, " n"]) -> list[Any]:
    return [each.decode(errors="backslashreplace") if isinstance(each, bytes) else each for each in values.tolist()]


def _read(array, rows):
    """Reads the next rows of an array, flat."""
    size = rows * int(np.prod(array.shape[1:])) * array.dtype.itemsize
    data = array.stream.read(size)
    if len(data) < size:
        raise BadInput(f"{array.name}: ends before its {array.shape[0]} rows do; the file is damaged")
    return np.frombuffer(data, array.dtype)


def _blocks(array, rows):
    """Yields so many rows of an array at a time; one in Fortran order is read as a whole first."""
    count, *rest = array.shape
    every = _read(array, count).reshape(array.shape, order="F") if array.fortran else None
    for first in range(0, count, rows):
        size = min(rows, count - first)
        yield _read(array, size).reshape(size, *rest) if every is None else every[first : first + size]


def _float32(raw, first, name):
    """Returns rows as float32, after checking that all of them are finite; first: the number of the first row."""
    with np.errstate(over="ignore"):
        x = raw.astype(np.float32)
    finite = np.isfinite(x).all(1)
    if not finite.all():
        raise BadInput(f"{name}: row {first + int(finite.argmin())} has a value that is NaN, infinite or beyond float32")
    return x
