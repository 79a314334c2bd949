"""Finds Parquet files and the parts of their rows: by the names of files or folders, or by a split column.

Beside train, val and test, rows may be UNLABELLED, and a file of a folder may hold DESCRIPTIONS of the classes.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer

from mmn_jax.data.array_files import canonical
from mmn_jax.data.labels import normal
from mmn_jax.data.parts import UNLABELLED, by_part, is_data, part_or_pool, parts_in, unused, visible
from mmn_jax.errors import BadInput, Say

BATCH_ROWS = 1024  # read at once
DESCRIPTIONS = "class_embeddings"  # the name of the file that describes the classes
EMBEDDING = "embedding"  # its column beside the label
BUFFER = 2**22  # bytes of a column that are read ahead; without it Arrow keeps everything that it has read


class Columns(NamedTuple):
    """Names of columns. features: lists of numbers of one length. label: integers, or names. split: train, validation or test (only used in
    a single file)."""

    features: str = "features"
    label: str = "label"
    split: str = "split"


def of_part(columns: Columns, part: str) -> Columns:
    """Returns the names of the columns of a part."""
    return columns._replace(features=EMBEDDING) if part == DESCRIPTIONS else columns


class MissingColumn(BadInput):
    """A Parquet file lacks a column. missing: what is wrong, without the advice to name another. role: the field of `Columns`."""

    def __init__(self, missing: str, role: str) -> None:
        super().__init__(f"{missing}; name it by columns.{role}, or rename it")
        self.missing, self.role = missing, role

    def __reduce__(self):  # an exception is pickled by its message alone
        return type(self), (self.missing, self.role)


class Shard(NamedTuple):
    """A file, and the part that each of its rows belongs to: one for all, or one for each of the n rows."""

    file: Path
    parts: str | np.ndarray
    rows: int

    def count(self, part: str) -> int:
        """Returns how many of its rows belong to the part."""
        return int((self.parts == part).sum()) if isinstance(self.parts, np.ndarray) else self.rows * (self.parts == part)


def is_parquet(path: Path, arrays: tuple[str, ...]) -> bool:
    """Returns whether a file's name ends with .parquet, or a folder holds such files, itself or in folders that are named after parts.

    Args:
      path: the file or folder.
      arrays: names of arrays, whose npy files a folder of Parquet files must not hold.

    Raises:
      BadInput: the folder holds both kinds of files.
    """
    if not path.is_dir():
        return path.suffix.lower() == ".parquet"
    there = visible(path)
    found = any(_parquet_in(each) if each.is_dir() and part_or_pool(each.name) else _is_parquet_file(each) for each in there)
    if found and any(canonical(each.stem) in arrays for each in there if each.suffix == ".npy"):
        raise BadInput(f"{path}: holds both Parquet and npy files, either of which could be meant; keep one kind")
    return found


def find_shards(
    path: Path, columns: Columns, say: Say, undivided: str | None = None, roles: tuple[str, ...] = ("features", "label")
) -> list[Shard]:
    """Returns the file, or the files of a folder, with the parts of their rows.

    Args:
      path: a file or a folder.
      columns: names of the columns.
      say: reports files that aren't used.
      undivided: the part of all rows of a file without a split column, or of a folder whose names spell no part; None to refuse them.
      roles: the fields of `columns` that each file must have, beside the split column; one of unlabelled examples needs no label.

    Raises:
      BadInput: a file can't be read, lacks a column, its part is unclear, or a shard is missing.
    """
    if not path.is_dir():
        if undivided and not _is_split(path, columns):
            return [_whole(path, undivided, columns, roles)]
        return [_single(path, columns, (*roles, "split"))]
    if undivided and not _spells_parts(path):
        _check_complete(_parquet_in(path))
        return [_whole(file, DESCRIPTIONS if _describes(file) else undivided, columns, roles) for file in _parquet_in(path)]
    return [_whole(file, part, columns, roles) for part, file in _parted(path, say)]


def find_rows(path: Path, columns: Columns, id_name: str | None, say: Say) -> list[Shard]:
    """Returns the file, or the files of a folder, with the rows to classify as those of test.

    They are all rows of a file without a split column and of a folder whose names spell no part, else those of test. No label is needed.

    Args:
      path: a file or folder.
      columns: names of the columns.
      id_name: the column of ids; None for none.
      say: reports files that aren't used.

    Raises:
      BadInput: a file can't be read, lacks a column, or a shard is missing; or there are parts, but no test.
    """
    shards = [shard for shard in find_shards(path, columns, say, "test", ("features",)) if "test" in np.unique(shard.parts)]
    if not shards:
        raise BadInput(f"{path}: has parts, but no test, whose rows are classified; give a file or folder of these rows alone")
    for shard in shards if id_name is not None else []:
        _check_id(shard.file, id_name)
    return shards


def _is_split(path, columns):
    """Returns whether a file has a split column, or should have one, as the name of that was given."""
    with opened(path) as file:
        return columns.split in file.schema_arrow.names or columns.split != Columns().split


def _check_id(path, id_name):
    """Checks that a file has the column of ids once."""
    with opened(path) as file:
        there = file.schema_arrow.names
    if there.count(id_name) != 1:
        raise BadInput(f"{path}: has {there.count(id_name) or 'no'} column {id_name} for the ids; its columns are {', '.join(there)}")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Opens a Parquet file; inside, what Arrow raises becomes a BadInput."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise BadInput(f"{path}: Parquet files are read by pyarrow, which is not installed; pip install 'mmn_jax[parquet]'") from error
    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            yield file
    except BadInput:
        raise
    except MemoryError as error:  # ArrowMemoryError is a subclass
        raise BadInput(f"{path}: doesn't fit into memory; write it with smaller row groups, or fewer rows") from error
    except (OSError, ValueError, KeyError) as error:  # Arrow's other exceptions are subclasses of these
        raise BadInput(f"{path}: not a Parquet file, or damaged") from error


def batches(file: Any, *columns: str, rows: int = BATCH_ROWS) -> Iterator[Any]:
    """Reads the rows of these columns, at most `rows` and `BATCH_ROWS` at a time."""
    return file.iter_batches(min(rows, BATCH_ROWS), columns=list(columns))


def _check_columns(file, path, columns):
    """Checks that the file has each column once; columns: names by role."""
    there = file.schema_arrow.names
    for role, name in columns.items():
        if name not in there:
            raise MissingColumn(f"{path}: column {name} is missing, it has {', '.join(there)}", role)
        if there.count(name) > 1:
            raise BadInput(f"{path}: has {there.count(name)} columns {name}; rename all but one")


def _single(path, columns, roles):
    """Returns a file with the parts that its split column says; roles: the fields of `columns` that it must have."""
    names, codes, where = dict[str, int](), [], f"{path}: column {columns.split}"
    with opened(path) as file:
        _check_columns(file, path, {role: getattr(columns, role) for role in roles})
        kind = file.schema_arrow.field(columns.split).type
        if not is_text_type(kind):
            raise BadInput(f"{where} holds {kind}, it must say train, validation, test or unlabelled")
        for batch in batches(file, columns.split):
            codes.append(label_codes(batch.column(0), where, sum(map(len, codes)), names))
    strange = [name for name in names if not part_or_pool(name)]
    if strange:
        raise BadInput(f"{where} has {strange[0]!r}, it must say train, validation, test or unlabelled")
    by_part(((part_or_pool(name), name.strip().casefold()) for name in names), where)
    parts = np.array([part_or_pool(name) for name in names], str)
    return Shard(path, parts[np.concatenate([*codes, np.zeros(0, np.int64)])], sum(map(len, codes)))


def _is_parquet_file(path):
    return path.suffix.lower() == ".parquet" and path.is_file()


def _parquet_in(folder):
    return [file for file in visible(folder) if _is_parquet_file(file)]


def _describes(file):
    """Returns whether a file describes the classes, by its name."""
    return file.stem.casefold().split("-")[0] == DESCRIPTIONS


def _spells_parts(path):
    """Returns whether the names of a folder's Parquet files, or of folders of such files in it, spell a part."""
    return any(
        parts_in(each.stem, part_or_pool) if _is_parquet_file(each) else each.is_dir() and part_or_pool(each.name) and _parquet_in(each)
        for each in visible(path)
    )


def _parted(path, say):
    """Returns (part, file) for the files of a folder, and of folders in it that are named after parts."""
    found, others = [], []
    for each in visible(path):
        inside = [file for file in visible(each) if file.suffix.lower() == ".parquet"] if each.is_dir() and part_or_pool(each.name) else []
        found += [(part_or_pool(each.name), f"{each.name}/", file) for file in inside]
        if each.is_file() and each.suffix.lower() == ".parquet":
            found.append((*_part_of_file(each), each))
        elif not inside:
            others += [each.name] if is_data(each) else []
    by_part(((part, called) for part, called, _ in found), path)
    _check_complete([file for _, _, file in found])
    if others:
        say(f"{path}: not used: {unused(others)}")
    return [(part, file) for part, _, file in found]


def _part_of_file(file):
    """Returns the part that a file's name spells, and how it spells it."""
    if _describes(file):
        return DESCRIPTIONS, DESCRIPTIONS
    found = parts_in(file.stem, part_or_pool)
    if len({part for part, _ in found}) > 1:
        raise BadInput(f"{file}: its name says {' and '.join(word for _, word in found)}; it must say one of train, validation and test")
    if not found:
        raise BadInput(f"{file}: its name must be train, validation, test or unlabelled, or one of these and -00000-of-00002")
    return found[0]


def _check_complete(files):
    """Checks that of the shards counted in a name, as in -00000-of-00002, all are there, and of one export only."""
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


def _whole(path, part, columns, roles):
    """Returns a file whose rows all belong to one part, after checking that it has the columns of these roles."""
    columns = of_part(columns, part)
    with opened(path) as file:
        _check_columns(file, path, {role: getattr(columns, role) for role in roles if not (role == "label" and part == UNLABELLED)})
        return Shard(path, part, file.metadata.num_rows)


def is_text_type(kind: Any) -> bool:
    """Returns whether an Arrow type is text, or a dictionary of text."""
    from pyarrow import types

    inner = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(inner) or types.is_large_string(inner) or types.is_string_view(inner)


def whole(column: Any, where: str, first: int) -> Any:
    """Returns the column after checking that each row has a value; first: the number of its first row."""
    if column.null_count:
        raise BadInput(f"{where} has no value in row {first + int(column.is_null().to_numpy(zero_copy_only=False).argmax())}")
    return column


def label_codes(column: Any, where: str, first: int, names: dict[str, int]) -> Integer[np.ndarray, " n"]:
    """Returns labels as integers: their own, or codes of their names, new ones of which are added to `names`.

    Args:
      column: labels that are integers or text.
      where: their place, for messages.
      first: the number of the first row.
      names: codes of the names so far, which is updated.

    Raises:
      BadInput: a label is missing, or neither an integer nor text.
    """
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    column = whole(column, where, first)
    if is_text_type(column.type):
        encoded = column.dictionary_encode()
        table = np.array([names.setdefault(normal(name), len(names)) for name in encoded.dictionary.to_pylist()], np.int64)
        return table[encoded.indices.to_numpy()]
    if not types.is_integer(column.type):
        raise BadInput(f"{where} must hold integers or names, it holds {column.type}")
    return column.to_numpy(zero_copy_only=False)
