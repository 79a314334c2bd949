"""Classifies new features by a run's classifier.npz, in numpy without JAX:

    python -m mmn_jax.predict --model=DIR --features=FILE [--out=FILE.csv] [--prior=train] [--id=NAME] [--top=K] [--probabilities]

FILE is an npz file with x [n, d] (or test_x), an .npy file or, as -, the standard input with such an array, a folder with x.npy, or a
Parquet file or folder with a column of features; where there are parts, the rows of test are classified. Rows are read, scored and written
in chunks, so the file may be larger than memory. The CSV has the columns index,label,probability,runner_up, one line per row. --id=NAME
puts a column id in front of them, from an array or a Parquet column of integers or text. --top=K writes label_1,probability_1 to
label_K,probability_K instead of label,probability,runner_up. --probabilities adds a column probability:CLASS for each class.
The class prior in use is uniform; --prior=train takes the one of the training set, --prior=FILE a text file with one number per class,
in the order of class_names. A class name, or an id that is text, gets an apostrophe in front if it starts with = + - @ or a tab, as a
spreadsheet would run it as a formula.
"""

import argparse
import csv
import io
import sys
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from mmn_jax.cli.command import Parser, exit_code, read_no_more, stop_on_signals
from mmn_jax.data.labels import told_apart
from mmn_jax.data.row_streams import Chunk, RowStream, open_rows
from mmn_jax.errors import BadInput, renamed
from mmn_jax.pipeline.column_flags import add_column_flags, column_flags, columns_of
from mmn_jax.store.classifier import Classifier, Prediction, load_classifier, predict, under_prior
from mmn_jax.store.files import whole
from mmn_jax.store.terminal import warn

CHUNK_FLOATS = 2**22  # in the features or the scores of a chunk, whichever are larger


class Layout(NamedTuple):
    """The columns of the CSV.

    ids: whether the first one is the id. top: the number of best labels, with their probabilities; None for the best label, its
    probability and the runner-up. every: whether there is a column for each class.
    """

    ids: bool = False
    top: int | None = None
    every: bool = False


def _header(layout: Layout, names: Iterable[str]) -> list[str]:
    """Returns the names of the columns; names: of the classes."""
    best = [f"{column}_{place}" for place in range(1, (layout.top or 0) + 1) for column in ("label", "probability")]
    every = [f"probability:{name}" for name in names] if layout.every else []
    return [*(["id"] if layout.ids else []), "index", *(best or ["label", "probability", "runner_up"]), *every]


def _columns(layout: Layout, chunk: Chunk, found: Prediction, cells: np.ndarray) -> list[Iterable[Any]]:
    """Returns the columns of a chunk; cells: the names of the classes as they are shown."""
    likely = np.take_along_axis(found.probabilities, found.best, 1)
    best = [column for place in range(found.best.shape[1]) for column in (cells[found.best[:, place]], _shown(likely[:, place]))]
    ids = [[_cell(each) if isinstance(each, str) else each for each in chunk.ids]] if chunk.ids is not None else []
    every = [_shown(column) for column in found.probabilities.T] if layout.every else []
    return [*ids, range(chunk.first, chunk.first + len(chunk.x)), *(best if layout.top else best[:3]), *every]


def _shown(probabilities: np.ndarray) -> Iterable[str]:
    return (f"{p:.6g}" for p in probabilities)


def _cell(name: str) -> str:
    """Returns a class name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def write_csv(classifier: Classifier, stream: RowStream, layout: Layout, out: IO[str]) -> None:
    """Classifies every row of the stream and writes one line of CSV for it.

    Raises:
      BadInput: the features are damaged, or the scores of a row overflow float32.
    """
    cells = told_apart(tuple(_cell(str(name)) for name in classifier.class_names.tolist()), "classes", warn)
    names = np.array(cells, object)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_header(layout, classifier.class_names.tolist()))
    rows = max(1, CHUNK_FLOATS // max(classifier.W.shape))
    with tqdm(total=stream.rows, unit=" rows", leave=False, disable=None) as progress:  # on stderr, where that is a terminal
        for chunk in stream.chunks(rows):
            found = predict(classifier, chunk.x, layout.top or 2)
            finite = np.isfinite(found.probability)
            if not finite.all():
                row = chunk.first + int(finite.argmin())
                raise BadInput(f"{stream.name}: row {row} is too large, its scores overflow float32; is it damaged?")
            writer.writerows(zip(*_columns(layout, chunk, found, names), strict=True))
            progress.update(len(chunk.x))
    out.flush()


def _to_file(path: str, classifier: Classifier, stream: RowStream, layout: Layout) -> None:
    try:
        with whole(Path(path)) as part, open(part, "w", newline="", encoding="utf-8") as out:
            write_csv(classifier, stream, layout, out)
    except OSError as error:
        raise BadInput(f"--out={path}: cannot be written ({error.strerror})") from error


def _to_standard_output(classifier: Classifier, stream: RowStream, layout: Layout) -> None:
    """Writes the predictions; a reader that stops early, such as `head`, is no error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    try:
        write_csv(classifier, stream, layout, sys.stdout)
    except OSError as error:
        read_no_more()
        if not isinstance(error, BrokenPipeError):
            raise BadInput(f"standard output: cannot be written ({error.strerror})") from error


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parses the flags."""
    parser = Parser("python -m mmn_jax.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="classifier.npz, or the folder that mmn-jax fit or a run wrote it to")
    parser.add_argument("--features", required=True, help="features in any form that a run reads, or - for an npy on the standard input")
    parser.add_argument("--out", help="CSV file to write (default: the standard output)")
    parser.add_argument("--prior", default="uniform", help="class prior in use: uniform, train, or a text file of C numbers")
    parser.add_argument("--id", metavar="NAME", help="array or Parquet column of ids, written as the first column")
    parser.add_argument("--top", type=int, metavar="K", help="write the K best labels with their probabilities")
    parser.add_argument("--probabilities", action="store_true", help="add a column probability:CLASS for each class")
    add_column_flags(parser, ("features", "split"))
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Loads the classifier, classifies the features and writes the predictions.

    Raises:
      BadInput: the classifier, the features or the prior can't be used, or the output can't be written.
    """
    classifier = under_prior(load_classifier(arguments.model), arguments.prior)
    classes, dim = classifier.W.shape
    if arguments.top is not None and not 1 <= arguments.top <= classes:
        raise BadInput(f"--top={arguments.top}: must be from 1 to {classes}, the number of classes")
    layout, columns = Layout(arguments.id is not None, arguments.top, arguments.probabilities), columns_of(arguments)
    with ExitStack() as stack, renamed({arguments.features: f"--features={arguments.features}"}), column_flags():
        try:
            stream = open_rows(stack, arguments.features, dim, arguments.id, columns, warn)
            if arguments.out:
                _to_file(arguments.out, classifier, stream, layout)
            else:
                _to_standard_output(classifier, stream, layout)
        except (zipfile.BadZipFile, zlib.error, EOFError, MemoryError, OverflowError) as error:
            raise BadInput(f"{arguments.features}: the file is damaged") from error


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return exit_code(lambda: run(parse(argv)))


if __name__ == "__main__":
    stop_on_signals()
    sys.exit(main())
