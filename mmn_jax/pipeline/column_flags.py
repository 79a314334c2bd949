"""The flags that name the columns of Parquet files, --config.data.columns.ROLE, for every command that reads features."""

import argparse
import contextlib
from collections.abc import Iterator, Sequence

from mmn_jax.data.parquet_files import Columns, MissingColumn
from mmn_jax.errors import BadInput

FLAG = "--config.data.columns"


@contextlib.contextmanager
def column_flags() -> Iterator[None]:
    """Inside, a message on a missing column of a Parquet file names the flag that says what the column is called."""
    try:
        yield
    except MissingColumn as error:
        raise BadInput(f"{error.missing}; name it by {FLAG}.{error.role}, or rename it") from error


def add_column_flags(parser: argparse.ArgumentParser, roles: Sequence[str] = Columns._fields) -> None:
    """Adds the flags of a run that name these columns to the parser of another command."""
    for role in roles:
        name = Columns._field_defaults[role]
        what = f"the column of a Parquet file (default: {name})"
        parser.add_argument(f"{FLAG}.{role}", default=name, metavar="NAME", dest=f"{role}_column", help=what)


def columns_of(arguments: argparse.Namespace) -> Columns:
    """Returns the names of the columns that the flags give."""
    return Columns(**{role: value for role in Columns._fields if (value := getattr(arguments, f"{role}_column", None)) is not None})
