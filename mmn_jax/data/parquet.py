"""Reads features from Parquet files as Hugging Face exports data sets: a column with a list of numbers in each row, and one of labels.

PATH is a file with a column that says which part a row belongs to; or a folder with one file or several shards for each part:
train-00000-of-00002.parquet, train-00001-of-00002.parquet, validation.parquet, test/0000.parquet. Examples without labels are a part of
their own, unlabelled, and a file class_embeddings.parquet of such a folder describes the classes. Files are read in batches, so that memory
holds the float32 features and little else.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from mmn_jax.data.labels import Coded, meet, normal
from mmn_jax.data.parquet_files import DESCRIPTIONS, Columns, Shard, batches, find_shards, is_text_type, label_codes, of_part, opened, whole
from mmn_jax.data.parts import UNLABELLED
from mmn_jax.errors import BadInput, Say, warn
from mmn_jax.machine import host_memory


def read_parquet(
    path: str | Path,
    columns: Columns = Columns(),  # noqa: B008 - a NamedTuple cannot change
    say: Say = warn,
    undivided: str | None = None,
) -> dict[str, np.ndarray]:
    """Reads the arrays of a file, or of the files of a folder, by name.

    Labels with names are mapped by name over all parts and files. Classes are in the order of a Hugging Face ClassLabel; labels that are
    text are sorted.

    Args:
      path: the file or folder.
      columns: names of the columns.
      say: reports files that aren't used.
      undivided: the part of all rows where neither a column nor a name says parts; None to refuse such files.

    Returns:
      train_x [n, d], train_y [n], test_x, .., class_names [C] if labels have names, unlabelled_x [u, d] and class_embeddings [C, m] where
      they are given.

    Raises:
      BadInput: a file can't be used; the message names the file and the column, and says why.
    """
    path = Path(path)
    filled = _read_all(find_shards(path, columns, say, undivided), columns, path)
    names, labels = meet({part: part_rows.labels for part, part_rows in filled.items() if part != UNLABELLED})
    described = filled.pop(DESCRIPTIONS, None)
    arrays = {f"{part}_x": part_rows.x for part, part_rows in filled.items()}
    if described is not None:
        y, train_y = labels.pop(DESCRIPTIONS), labels.get("train", np.zeros(0, int))
        classes = len(names) if names is not None else int(train_y.max(initial=-1)) + 1
        arrays[DESCRIPTIONS] = _by_class(described.x, y, classes, described.where[1])
    arrays |= {f"{part}_y": y for part, y in labels.items()}
    return arrays if names is None else arrays | {"class_names": np.array(names)}


def _by_class(x, y, classes, where):
    """Returns the rows of x in the order of the classes [C, m], zeros for a class without one; where: the place of the labels y."""
    unknown = (y < 0) | (y >= classes)
    if unknown.any():
        raise BadInput(f"{where} has label {y[unknown][0]}, but there are {classes} classes (0 to {classes - 1})")
    if (np.bincount(y, minlength=1) > 1).any():
        raise BadInput(f"{where} has two rows of class {int(np.bincount(y).argmax())}; give one for each class")
    found = np.zeros((classes, x.shape[1]), np.float32)
    found[y] = x
    return found


def stream_rows(
    shards: Sequence[Shard], columns: Columns, id_name: str | None, dim: int, path: Path, rows: int
) -> Iterator[tuple[Float[np.ndarray, "n d"] | Integer[np.ndarray, "n d"], list[Any] | None]]:
    """Reads the rows of test from files, in order.

    Args:
      shards: the files (`parquet_files.find_rows`).
      columns: names of the columns.
      id_name: the column of ids, integers or text; None for none.
      dim: the d that is needed.
      path: the file or folder, for messages.
      rows: at most how many are read at once.

    Yields:
      Features [n, dim] in the files' own type, and their ids.

    Raises:
      BadInput: a file can't be read, or a column holds something else.
    """
    first, where = 0, f"{path}: column {columns.features}"
    for shard, batch in _batches_of_test(shards, [columns.features, *([] if id_name is None else [id_name])], rows):
        ids = None if id_name is None else _ids(batch.column(id_name), f"{path}: column {id_name}", first)
        x = _matrix(batch.column(columns.features), where, first, dim if first else None)
        if x.shape[1] != dim:
            raise BadInput(f"{where} must hold lists of {dim} numbers for this model, it holds lists of {x.shape[1]} ({shard.file.name})")
        yield x, ids
        first += len(x)


def _batches_of_test(shards, names, rows):
    """Yields each file and its batches of these columns, without the rows of other parts and without empty batches."""
    for shard in shards:
        done = 0
        with opened(shard.file) as file, np.errstate(over="ignore", invalid="ignore"):
            for batch in batches(file, *dict.fromkeys(names), rows=rows):
                if not isinstance(shard.parts, str):
                    done, batch = done + batch.num_rows, batch.filter(_mask(shard.parts[done : done + batch.num_rows] == "test"))
                if batch.num_rows:
                    yield shard, batch


def _ids(column, where, first):
    """Returns the ids in a column; first: the number of its first row."""
    from pyarrow import types

    if not (is_text_type(column.type) or types.is_integer(column.type)):
        raise BadInput(f"{where}: ids must be integers or text, they are {column.type}")
    return whole(column, where, first).to_pylist()


class _PartRows:
    """The rows of one part, filled batch by batch: x [n, d] float32, and labels by file.

    room: returns an empty array for (rows, d). where: what messages call the part's columns. read: those that are read.
    """

    def __init__(self, part, rows, columns, path, room):
        self.x, self.rows, self.done, self.labels = np.empty((0, 0), np.float32), rows, 0, list[Coded]()
        self.columns, self.room = of_part(columns, part), room
        self.where = [f"{path}: column {name} of {part}" for name in (self.columns.features, columns.label)]
        self.read = [self.columns.features, *([] if part == UNLABELLED else [columns.label])]

    def add(self, batch, codes, names):
        """Adds a batch; its labels are appended to `codes`, new names of text labels to `names`, which maps them to codes."""
        if batch.num_rows:
            x = _matrix(batch.column(self.columns.features), self.where[0], self.done, self.x.shape[1] if self.done else None)
            self.x = self.x if self.done else self.room(self.rows, x.shape[1])
            self.x[self.done : self.done + len(x)] = x
            if self.columns.label in self.read:
                codes.append(label_codes(batch.column(self.columns.label), self.where[1], self.done, names))
            self.done += len(x)


def _room(path, total, rows, dim):
    """Returns an empty float32 array [rows, dim], if memory can hold `total` rows."""
    size = f"{path}: {total} rows of {dim} float32 features take {4e-9 * total * dim:.1f} GB"
    if 4 * total * dim > host_memory():
        raise BadInput(f"{size}, there are {host_memory() / 1e9:.1f} GB of memory; give fewer rows, or fewer dimensions")
    try:
        return np.empty((rows, dim), np.float32)
    except MemoryError as error:
        raise BadInput(f"{size}, which don't fit into memory; give fewer rows, or fewer dimensions") from error


def _read_all(shards, columns, path):
    """Returns the rows of each part, from all files."""
    parts = dict.fromkeys(str(part) for shard in shards for part in np.unique(shard.parts))
    rows = {part: sum(shard.count(part) for shard in shards) for part in parts}
    room = partial(_room, path, sum(rows.values()))
    filled = {part: _PartRows(part, rows[part], columns, path, room) for part in parts}
    for shard in shards:
        _read_shard(shard, columns, filled, path)
    return filled


def _read_shard(shard, columns, filled, path):
    """Reads one file into the parts of its rows."""
    here, first = {str(part): ([], {}) for part in np.unique(shard.parts)}, 0
    with opened(shard.file) as file, np.errstate(over="ignore", invalid="ignore"):  # values beyond float32 are refused later
        listed = _class_label(file.schema_arrow.metadata, columns.label)
        read = dict.fromkeys(name for part in here for name in filled[part].read)
        kind = file.schema_arrow.field(columns.label).type if columns.label in read else None
        for batch in batches(file, *read):
            rows = shard.parts if isinstance(shard.parts, str) else shard.parts[first : first + batch.num_rows]
            for part, (codes, names) in here.items():
                own = batch if isinstance(rows, str) else batch.filter(_mask(rows == part))
                filled[part].add(own, codes, names)
            first += batch.num_rows
    for part, (codes, names) in here.items():
        where = filled[part].where[1]
        where = where if shard.file == path else f"{where} ({shard.file.name})"
        text = tuple(names) if kind is not None and is_text_type(kind) else None
        every = np.concatenate(codes) if codes else np.zeros(0, np.int64)
        filled[part].labels.append(Coded(every, text or listed, text is None and listed is not None, where))


def _mask(rows):
    import pyarrow as pa

    return pa.array(rows)


def _is_list(kind, types):
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _matrix(column, where, first, dim):
    """Returns the rows [n, d] of a column of lists; first: the number of the first row. dim: d of earlier rows, None if there are none."""
    import pyarrow.compute as pc
    from pyarrow import types

    kind = column.type
    inner = getattr(kind, "value_type", kind)
    if not (_is_list(kind, types) and (types.is_floating(inner) or types.is_integer(inner))):
        raise BadInput(f"{where} must hold lists of numbers, it holds {kind}")
    lengths = pc.list_value_length(whole(column, where, first)).to_numpy(zero_copy_only=False)
    wanted = int(lengths[0]) if dim is None else dim
    if (lengths != wanted).any():
        row = int((lengths != wanted).argmax())
        raise BadInput(f"{where} has lists of different lengths: {wanted} in row 0, {lengths[row]} in row {first + row}")
    flat = pc.list_flatten(column)
    if flat.null_count:
        row = int(flat.is_null().to_numpy(zero_copy_only=False).argmax()) // wanted
        raise BadInput(f"{where} has a list with an empty value in row {first + row}")
    return flat.to_numpy(zero_copy_only=False).reshape(len(lengths), wanted)


def _class_label(metadata, column):
    """Returns the names of a Hugging Face ClassLabel, which the file keeps beside an integer column; None if there are none."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][column]["names"]
        names = [names[key] for key in sorted(names, key=int)] if isinstance(names, dict) else names
        return tuple(normal(name) for name in names if isinstance(name, str)) or None
    except (KeyError, TypeError, ValueError):  # a file of another writer, or plain integers
        return None
