"""Features from Parquet files as Hugging Face data sets are exported: a column with a list of numbers a row, and one of labels.

One file with a column that says which part a row belongs to, or a folder with a file or several shards a part:
train-00000-of-00002.parquet, train-00001-of-00002.parquet, validation.parquet, test/0000.parquet. Files are read in batches, so that
memory holds the float32 features and little else.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmn_jax.data.labels import Coded, meet, normal
from mmn_jax.data.parts import by_part, is_data, part_of, parts_in, unused, visible
from mmn_jax.types import BadInput, Say, warn

BATCH_ROWS = 1024  # read at once
BUFFER = 2**22  # bytes of a column that are read ahead


class Columns(NamedTuple):
    """features: lists of numbers, all of one length. label: integers, or names. split: train, validation or test, in a single file."""

    features: str = "features"
    label: str = "label"
    split: str = "split"


class Shard(NamedTuple):
    """A file and the part that each of its rows belongs to: one for all of them, or [n] their parts."""

    file: Path
    parts: str | np.ndarray
    rows: int

    def count(self, part: str) -> int:
        """How many of its rows belong to the part."""
        return int((self.parts == part).sum()) if isinstance(self.parts, np.ndarray) else self.rows * (self.parts == part)


def is_parquet(path: Path) -> bool:
    """Whether a folder holds Parquet files, itself or in folders called by parts; or a file's name ends with .parquet."""
    if not path.is_dir():
        return path.suffix.lower() == ".parquet"
    inside = [file for each in visible(path) for file in (visible(each) if each.is_dir() and part_of(each.name) else [each])]
    return any(file.suffix.lower() == ".parquet" and file.is_file() for file in inside)


def read_parquet(path: str | Path, columns: Columns = Columns(), say: Say = warn) -> dict[str, np.ndarray]:  # noqa: B008 - a NamedTuple cannot change
    """The arrays train_x [n, d], train_y [n], test_x, .. of a file, or of the files of a folder; class_names [C] where labels have names.

    Labels with names are mapped by name over all parts and files. Names that are text stand in their order among those of train,
    sorted; those of a Hugging Face ClassLabel keep theirs.

    Raises:
      BadInput: naming the file, the column and what is wrong with it.
    """
    path = Path(path)
    shards = _folder(path, columns, say) if path.is_dir() else [_single(path, columns)]
    filled = _read_all(shards, columns, path)
    names, labels = meet({part: part_rows.labels for part, part_rows in filled.items()})
    arrays = {f"{part}_x": part_rows.x for part, part_rows in filled.items()} | {f"{part}_y": y for part, y in labels.items()}
    return arrays if names is None else arrays | {"class_names": np.array(names)}


@contextlib.contextmanager
def _opened(path) -> Iterator[Any]:
    """The Parquet file; what Arrow raises while it is open becomes one line."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise BadInput(f"{path}: Parquet files are read by pyarrow, which is not installed; pip install 'mmn_jax[parquet]'") from error
    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=BUFFER) as file:
            yield file
    except BadInput:
        raise
    except MemoryError as error:  # Arrow's own is one
        raise BadInput(f"{path}: doesn't fit into memory; write it with smaller row groups, or fewer rows") from error
    except (OSError, ValueError, KeyError) as error:  # Arrow's other errors are one of these
        raise BadInput(f"{path}: not a Parquet file, or damaged") from error


def _check_columns(file, path, columns):
    """columns: role → name."""
    there = file.schema_arrow.names
    for role, name in columns.items():
        if name not in there:
            advice = f"name it by --config.data.columns.{role}, or rename it"
            raise BadInput(f"{path}: column {name} is missing, it has {', '.join(there)}; {advice}")
        if there.count(name) > 1:
            raise BadInput(f"{path}: has {there.count(name)} columns {name}; rename all but one")


def _single(path, columns):
    """A file whose split column says the part of each row."""
    names, codes, where = dict[str, int](), [], f"{path}: column {columns.split}"
    with _opened(path) as file:
        _check_columns(file, path, columns._asdict())
        kind = file.schema_arrow.field(columns.split).type
        if not _is_text(kind):
            raise BadInput(f"{where} holds {kind}, it must say train, validation or test")
        for batch in file.iter_batches(BATCH_ROWS, columns=[columns.split]):
            codes.append(_codes(batch.column(0), where, sum(map(len, codes)), names))
    strange = [name for name in names if not part_of(name)]
    if strange:
        raise BadInput(f"{where} has {strange[0]!r}, it must say train, validation or test")
    by_part(((part_of(name), name.strip().casefold()) for name in names), where)
    return Shard(
        path, np.array([part_of(name) for name in names], str)[np.concatenate([*codes, np.zeros(0, np.int64)])], sum(map(len, codes))
    )


def _folder(path, columns, say):
    """The files of a folder, and of folders in it that are called by parts, each with its part."""
    found, others = [], []
    for each in visible(path):
        inside = [file for file in visible(each) if file.suffix.lower() == ".parquet"] if each.is_dir() and part_of(each.name) else []
        found += [(part_of(each.name), f"{each.name}/", file) for file in inside]
        if each.is_file() and each.suffix.lower() == ".parquet":
            found.append((*_part_of_file(each), each))
        elif not inside:
            others += [each.name] if is_data(each) else []
    by_part(((part, called) for part, called, _ in found), path)
    _check_complete([file for _, _, file in found])
    if others:
        say(f"{path}: not used: {unused(others)}")
    return [Shard(file, part, _rows(file, columns)) for part, _, file in found]


def _part_of_file(file):
    found = parts_in(file.stem)
    if len({part for part, _ in found}) > 1:
        raise BadInput(f"{file}: its name says {' and '.join(word for _, word in found)}; it must say one of train, validation and test")
    if not found:
        raise BadInput(f"{file}: its name must be train, validation or test, or one of these and -00000-of-00002")
    return found[0]


def _check_complete(files):
    """Every shard 00000 .. of those that a name counts is there, and of one export."""
    exports: dict[tuple, dict[int, set]] = {}
    for file in files:
        counted = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})", file.stem)
        if counted:
            exports.setdefault((file.parent, counted[1]), {}).setdefault(int(counted[3]), set()).add(int(counted[2]))
    for (folder, name), totals in exports.items():
        if len(totals) > 1:
            raise BadInput(f"{folder}: {name} is there in {' and in '.join(f'{total} shards' for total in totals)}; keep one export")
        [(total, there)] = totals.items()
        missing = sorted(set(range(total)) - there)
        if missing:
            raise BadInput(f"{folder / f'{name}-{missing[0]:05d}-of-{total:05d}.parquet'}: is missing, but other shards of it are there")


def _rows(path, columns):
    with _opened(path) as file:
        _check_columns(file, path, {"features": columns.features, "label": columns.label})
        return file.metadata.num_rows


class _PartRows:
    """The rows of one part, filled batch by batch: x [n, d] float32, and labels by file.

    room: (rows, d) → an array for them. where: what messages call the part's columns.
    """

    def __init__(self, part, rows, columns, path, room):
        self.x, self.rows, self.done, self.labels = np.empty((0, 0), np.float32), rows, 0, list[Coded]()
        self.where = [f"{path}: column {name} of {part}" for name in (columns.features, columns.label)]
        self.columns, self.room = columns, room

    def add(self, batch, codes, names):
        """Takes a batch; codes: a list that its labels are put into. names: those of text labels so far → code."""
        if batch.num_rows:
            x = _matrix(batch.column(self.columns.features), self.where[0], self.done, self.x.shape[1] if self.done else None)
            self.x = self.x if self.done else self.room(self.rows, x.shape[1])
            self.x[self.done : self.done + len(x)] = x
            codes.append(_codes(batch.column(self.columns.label), self.where[1], self.done, names))
            self.done += len(x)


def _room(path, total, rows, dim):
    """[rows, dim] float32, where memory holds all `total` rows."""
    from mmn_jax.mesh import host_memory  # with jax

    told = f"{path}: {total} rows of {dim} float32 features take {4e-9 * total * dim:.1f} GB"
    if 4 * total * dim > host_memory():
        raise BadInput(f"{told}, there are {host_memory() / 1e9:.1f} GB of memory; give fewer rows, or fewer dimensions")
    try:
        return np.empty((rows, dim), np.float32)
    except MemoryError as error:
        raise BadInput(f"{told}, which memory doesn't hold; give fewer rows, or fewer dimensions") from error


def _read_all(shards, columns, path):
    """part → its rows, of all files."""
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
    with _opened(shard.file) as file, np.errstate(over="ignore", invalid="ignore"):  # what float32 can't hold is refused later
        listed = _class_label(file.schema_arrow.metadata, columns.label)
        kind = file.schema_arrow.field(columns.label).type
        for batch in file.iter_batches(BATCH_ROWS, columns=[columns.features, columns.label]):
            rows = shard.parts if isinstance(shard.parts, str) else shard.parts[first : first + batch.num_rows]
            for part, (codes, names) in here.items():
                own = batch if isinstance(rows, str) else batch.filter(_mask(rows == part))
                filled[part].add(own, codes, names)
            first += batch.num_rows
    for part, (codes, names) in here.items():
        where = filled[part].where[1]
        where = where if shard.file == path else f"{where} ({shard.file.name})"
        text = tuple(names) if _is_text(kind) else None
        every = np.concatenate(codes) if codes else np.zeros(0, np.int64)
        filled[part].labels.append(Coded(every, text or listed, text is None and listed is not None, where))


def _mask(rows):
    import pyarrow as pa

    return pa.array(rows)


def _whole(column, where, first):
    """The column, which must have a value in every row; first: the number of its first row."""
    if column.null_count:
        raise BadInput(f"{where} has no value in row {first + int(column.is_null().to_numpy(zero_copy_only=False).argmax())}")
    return column


def _is_list(kind, types):
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _matrix(column, where, first, dim):
    """[n, d] the rows of a column of lists; first: the number of its first row. dim: of the rows before, None where there are none."""
    import pyarrow.compute as pc
    from pyarrow import types

    kind = column.type
    inner = getattr(kind, "value_type", kind)
    if not (_is_list(kind, types) and (types.is_floating(inner) or types.is_integer(inner))):
        raise BadInput(f"{where} must hold lists of numbers, it holds {kind}")
    lengths = pc.list_value_length(_whole(column, where, first)).to_numpy(zero_copy_only=False)
    wanted = int(lengths[0]) if dim is None else dim
    if (lengths != wanted).any():
        row = int((lengths != wanted).argmax())
        raise BadInput(f"{where} has lists of different lengths: {wanted} in row 0, {lengths[row]} in row {first + row}")
    flat = pc.list_flatten(column)
    if flat.null_count:
        row = int(flat.is_null().to_numpy(zero_copy_only=False).argmax()) // wanted
        raise BadInput(f"{where} has a list with an empty value in row {first + row}")
    return flat.to_numpy(zero_copy_only=False).reshape(len(lengths), wanted)


def _is_text(kind):
    from pyarrow import types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(inner) or types.is_large_string(inner) or types.is_string_view(inner)


def _codes(column, where, first, names):
    """[n] integers; of labels that are text, codes of their names, which are added to `names` where they are new."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    column = _whole(column, where, first)
    if _is_text(column.type):
        encoded = column.dictionary_encode()
        table = np.array([names.setdefault(normal(name), len(names)) for name in encoded.dictionary.to_pylist()], np.int64)
        return table[encoded.indices.to_numpy()]
    if not types.is_integer(column.type):
        raise BadInput(f"{where} must hold integers or names, it holds {column.type}")
    return column.to_numpy(zero_copy_only=False)


def _class_label(metadata, column):
    """The names of a Hugging Face ClassLabel, which it keeps beside an integer column; None where there are none."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][column]["names"]
        names = [names[key] for key in sorted(names, key=int)] if isinstance(names, dict) else names
        return tuple(normal(name) for name in names if isinstance(name, str)) or None
    except (KeyError, TypeError, ValueError):  # another writer's file, or plain integers
        return None
