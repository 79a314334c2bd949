"""Classifies new features by a run's classifier.npz, in numpy without JAX:

    python -m mmn_jax.predict --model=WORKDIR --features=FILE.npz [--out=FILE.csv] [--prior=train]

FILE.npz holds x [n, d] (or test_x); FILE.npy, or - for the standard input, is one such array. Rows are read, scored and written in
chunks, so the file may be larger than memory. The CSV has the columns index,label,probability,runner_up, one line per row.
The class prior in use is uniform; --prior=train takes the one of the training set, --prior=FILE a text file with one number per class,
in the order of class_names. A class name that starts with = + - @ or a tab gets an apostrophe in front, as a spreadsheet would run it as
a formula.
"""

import argparse
import csv
import io
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from tqdm import tqdm

from mmn_jax.cli.command import Parser, exit_code, read_no_more, stop_on_signals
from mmn_jax.data.array_files import canonical
from mmn_jax.data.labels import told_apart
from mmn_jax.errors import BadInput
from mmn_jax.store.classifier import Classifier, load_classifier, predict, under_prior
from mmn_jax.store.files import whole
from mmn_jax.store.terminal import warn

CHUNK_FLOATS = 2**22  # in the features or the scores of a chunk, whichever are larger


class FeatureTable(NamedTuple):
    """A stream over the rows of an array [n, d].

    stream: positioned at the first row. shape: (n, d). fortran: whether the array is in Fortran order. dtype: its type.
    name: what messages call it.
    """

    stream: IO[bytes]
    shape: tuple[int, int]
    fortran: bool
    dtype: np.dtype
    name: str


def _open(stack: ExitStack, path: str) -> tuple[IO[bytes], str]:
    """Opens an .npy file or the npz member that holds the features; returns the stream and its name for messages."""
    if path == "-":
        return sys.stdin.buffer, "--features=-"
    try:
        if not zipfile.is_zipfile(path):
            return stack.enter_context(open(path, "rb")), f"--features={path}"
        archive = stack.enter_context(zipfile.ZipFile(path))
        names = {canonical(name.removesuffix(".npy")): name for name in archive.namelist() if name.endswith(".npy")}
        members = [names[name] for name in ("x", "test_x") if name in names]
        if members:
            return stack.enter_context(archive.open(members[0])), f"--features={path}: {members[0].removesuffix('.npy')}"
    except (OSError, RuntimeError) as error:  # RuntimeError: encrypted, or compressed in an unknown way
        raise BadInput(f"--features={path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    raise BadInput(f"--features={path}: has neither x nor test_x; write it with numpy.savez(FILE, x=features)")


def open_table(stack: ExitStack, path: str, dim: int) -> FeatureTable:
    """Opens the features of a file and checks their header; no row is read yet.

    Args:
      stack: closes the file.
      path: an npz or npy file, or - for an npy on the standard input.
      dim: the d that the classifier needs.

    Returns:
      The table of features.

    Raises:
      BadInput: the file isn't there or isn't an array [n, dim] of numbers.
    """
    stream, name = _open(stack, path)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Exception as error:  # numpy evaluates the header, so a damaged one may raise anything
        raise BadInput(f"{name}: not a numpy array; write it with numpy.save, or into an npz file with numpy.savez") from error
    if dtype.kind not in "fiu":
        raise BadInput(f"{name}: must hold numbers, it holds {dtype}")
    if len(shape) != 2 or shape[1] != dim:
        raise BadInput(f"{name}: must be [n, {dim}] for this model, it is {list(shape)}")
    return FeatureTable(stream, shape, fortran, dtype, name)


def _read(table: FeatureTable, rows: int) -> np.ndarray:
    """Reads the next rows [rows · d]."""
    size = rows * table.shape[1] * table.dtype.itemsize
    data = table.stream.read(size)
    if len(data) < size:
        raise BadInput(f"{table.name}: ends before its {table.shape[0]} rows do; the file is damaged")
    return np.frombuffer(data, table.dtype)


def chunks(table: FeatureTable, rows: int) -> Iterator[tuple[int, np.ndarray]]:
    """Reads a table in chunks; an array in Fortran order is read as a whole first.

    Args:
      table: the features.
      rows: in a chunk.

    Yields:
      The index of the chunk's first row, and its features [rows, d] as float32.

    Raises:
      BadInput: the file ends early, or a value is NaN, infinite or too large for float32.
    """
    count, dim = table.shape
    every = _read(table, count).reshape((count, dim), order="F") if table.fortran else None
    for first in range(0, count, rows):
        size = min(rows, count - first)
        raw = _read(table, size).reshape(size, dim) if every is None else every[first : first + size]
        with np.errstate(over="ignore"):
            x = raw.astype(np.float32)
        finite = np.isfinite(x).all(1)
        if not finite.all():
            raise BadInput(f"{table.name}: row {first + int(finite.argmin())} has a value that is NaN, infinite or beyond float32")
        yield first, x


def _cell(name: str) -> str:
    """Returns a class name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def write_csv(classifier: Classifier, table: FeatureTable, out: IO[str]) -> None:
    """Classifies every row of the table and writes one line of CSV for it.

    Raises:
      BadInput: the features are damaged (`chunks`), or the scores of a row overflow float32.
    """
    cells = told_apart(tuple(_cell(str(name)) for name in classifier.class_names.tolist()), "classes", warn)
    names = np.array(cells, object)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["index", "label", "probability", "runner_up"])
    rows = max(1, CHUNK_FLOATS // max(classifier.W.shape))
    with tqdm(total=table.shape[0], unit=" rows", leave=False, disable=None) as progress:  # on stderr, where that is a terminal
        for first, x in chunks(table, rows):
            label, probability, runner_up = predict(classifier, x)
            if not np.isfinite(probability).all():
                row = first + int(np.isfinite(probability).argmin())
                raise BadInput(f"{table.name}: row {row} is too large, its scores overflow float32; is it damaged?")
            shown = (f"{p:.6g}" for p in probability)
            writer.writerows(zip(range(first, first + len(x)), names[label], shown, names[runner_up], strict=True))
            progress.update(len(x))
    out.flush()


def _to_file(path: str, classifier: Classifier, table: FeatureTable) -> None:
    try:
        with whole(Path(path)) as part, open(part, "w", newline="", encoding="utf-8") as out:
            write_csv(classifier, table, out)
    except OSError as error:
        raise BadInput(f"--out={path}: cannot be written ({error.strerror})") from error


def _to_standard_output(classifier: Classifier, table: FeatureTable) -> None:
    """Writes the predictions; a reader that stops early, such as `head`, is no error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    try:
        write_csv(classifier, table, sys.stdout)
    except OSError as error:
        read_no_more()
        if not isinstance(error, BrokenPipeError):
            raise BadInput(f"standard output: cannot be written ({error.strerror})") from error


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parses the flags."""
    parser = Parser("python -m mmn_jax.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="workdir of a run, with classifier.npz")
    parser.add_argument(
        "--features", required=True, help="npz file with x [n, d] or test_x, npy file, or - for an npy on the standard input"
    )
    parser.add_argument("--out", help="CSV file to write (default: the standard output)")
    parser.add_argument("--prior", default="uniform", help="class prior in use: uniform, train, or a text file of C numbers")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Loads the classifier, classifies the features and writes the predictions.

    Raises:
      BadInput: the classifier, the features or the prior can't be used, or the output can't be written.
    """
    classifier = under_prior(load_classifier(arguments.model), arguments.prior)
    with ExitStack() as stack:
        try:
            table = open_table(stack, arguments.features, classifier.W.shape[1])
            if arguments.out:
                _to_file(arguments.out, classifier, table)
            else:
                _to_standard_output(classifier, table)
        except (zipfile.BadZipFile, zlib.error, EOFError, MemoryError, OverflowError) as error:
            raise BadInput(f"--features={arguments.features}: the file is damaged") from error


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return exit_code(lambda: run(parse(argv)))


if __name__ == "__main__":
    stop_on_signals()
    sys.exit(main())
