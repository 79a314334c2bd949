"""Features from Parquet files as Hugging Face data sets are exported: a column with a list of numbers a row, and one of labels.

One file with a column that says which part a row belongs to, or a folder with a file or several shards a part:
train-00000-of-00002.parquet, train-00001-of-00002.parquet, validation.parquet, test.parquet.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmn_jax.types import BadInput

PARTS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}


class Columns(NamedTuple):
    """features: lists of numbers, all of one length. label: integers, or names. split: train, validation or test, in a single file."""

    features: str = "features"
    label: str = "label"
    split: str = "split"


def read_parquet(path: str | Path, columns: Columns = Columns()) -> dict[str, np.ndarray]:  # noqa: B008 - a NamedTuple cannot change
    """The arrays train_x [n, d], train_y [n], test_x, .. of a file, or of the files of a folder; class_names [C] where labels have names.

    Labels that are names become their place among the names in train, sorted; those of a Hugging Face ClassLabel keep theirs.

    Raises:
      BadInput: naming the file, the column and what is wrong with it.
    """
    path = Path(path)
    tables = _folder(path, columns) if path.is_dir() else _single(path, columns)
    arrays, labels = {}, {}
    for part, table in tables.items():
        arrays[f"{part}_x"] = _matrix(table[columns.features], f"{path}: column {columns.features} of {part}")
        labels[part] = _labels(table[columns.label], f"{path}: column {columns.label} of {part}")
    names = _class_names(tables, labels, columns.label)
    if names is not None:
        arrays["class_names"] = names
    return arrays | {f"{part}_y": _places(label, names, f"{path}: column {columns.label} of {part}") for part, label in labels.items()}


def _read(path, columns):
    """The table of these columns, role → name, of one file."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise BadInput(f"{path}: Parquet files are read by pyarrow, which is not installed; pip install 'mmn_jax[parquet]'") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            there = file.schema_arrow.names
            for role, name in columns.items():
                if name not in there:
                    advice = f"name it by --config.data.columns.{role}, or rename it"
                    raise BadInput(f"{path}: column {name} is missing, it has {', '.join(there)}; {advice}")
            return file.read(list(columns.values()))
    except BadInput:
        raise
    except (OSError, ValueError) as error:  # Arrow's own errors are one or the other
        raise BadInput(f"{path}: not a Parquet file, or damaged") from error


def _single(path, columns):
    """part → table of the rows that the split column gives it."""
    table = _read(path, columns._asdict())
    said = table[columns.split].to_pylist()
    strange = [value for value in said if value not in PARTS]
    if strange:
        raise BadInput(f"{path}: column {columns.split} has {strange[0]!r}, it must say train, validation or test")
    part_of = np.array([PARTS[value] for value in said], str)
    return {str(part): table.take(np.flatnonzero(part_of == part)) for part in np.unique(part_of)}


def _folder(path, columns):
    """part → table of all files whose names begin with that part."""
    shards = {}
    for file in sorted(path.glob("*.parquet")):
        first = file.stem.split("-")[0]
        if first not in PARTS:
            raise BadInput(f"{file}: its name must be train, validation or test, or one of these and -00000-of-00002")
        shards.setdefault(PARTS[first], []).append(_read(file, {"features": columns.features, "label": columns.label}))
    return {part: _joined(tables, f"{path}: {part}") for part, tables in shards.items()}


def _joined(tables, where):
    import pyarrow as pa

    try:
        return pa.concat_tables(tables)
    except ValueError as error:
        raise BadInput(f"{where} is in several files, whose columns are of different types") from error


def _whole(column, where):
    """The column, which must have a value in every row."""
    if column.null_count:
        raise BadInput(f"{where} has no value in row {int(column.is_null().to_numpy().argmax())}")
    return column


def _matrix(column, where):
    """[n, d] the rows of a column of lists."""
    import pyarrow.compute as pc
    from pyarrow import types

    kind = column.type
    inner = getattr(kind, "value_type", kind)
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not (is_list and (types.is_floating(inner) or types.is_integer(inner))):
        raise BadInput(f"{where} must hold lists of numbers, it holds {kind}")
    lengths = pc.list_value_length(_whole(column, where)).to_numpy()
    if (lengths != lengths[:1]).any():
        row = int((lengths != lengths[0]).argmax())
        raise BadInput(f"{where} has lists of different lengths: {lengths[0]} in row 0, {lengths[row]} in row {row}")
    flat = pc.list_flatten(column)
    if flat.null_count:
        raise BadInput(f"{where} has a list with an empty value in row {int(flat.is_null().to_numpy().argmax()) // int(lengths[0])}")
    return flat.to_numpy().reshape(len(lengths), int(lengths[0]) if len(lengths) else 0)


def _labels(column, where):
    """[n] integers or text."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_string(column.type) or types.is_large_string(column.type):
        return np.array(_whole(column, where).to_pylist(), str)
    if not types.is_integer(column.type):
        raise BadInput(f"{where} must hold integers or names, it holds {column.type}")
    return _whole(column, where).to_numpy()


def _class_names(tables, labels, column):
    """[C] the names of a Hugging Face ClassLabel, which it keeps beside an integer column; or those in train; or None."""
    if "train" not in tables:
        return None
    if labels["train"].dtype.kind == "U":
        return np.unique(labels["train"])
    try:
        return np.array(json.loads(tables["train"].schema.metadata[b"huggingface"])["info"]["features"][column]["names"], str)
    except (KeyError, TypeError, ValueError):  # another writer's file, or plain integers
        return None


def _places(labels, names, where):
    """[n] integers: of a label that is a name, its place among the names."""
    if labels.dtype.kind != "U":
        return labels
    place = {name: i for i, name in enumerate([] if names is None else names.tolist())}
    unknown = [name for name in labels.tolist() if name not in place]
    if unknown:
        raise BadInput(f"{where} has the name {unknown[0]!r}, which train has not")
    return np.array([place[name] for name in labels.tolist()], np.int64)
