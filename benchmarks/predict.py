"""Measures how fast `python -m mmn_jax.predict` classifies a large file, and how much memory it takes.

python benchmarks/predict.py [--rows=1000000] [--dims=128,2048] [--classes=250,1000] [--dtype=float32]

Features and classifier are synthetic, one case for each d with its number of classes; the file of rows · d numbers lies in a temporary
folder. Memory is the peak resident set of the command's process; the table shows the size of the file beside it.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

BLOCK_FLOATS = 2**20  # written at a time; the command's peak includes the memory of this process at its start, so that stays small


class Measured(NamedTuple):
    """Seconds of the command, bytes of its peak resident set and of its file."""

    seconds: float
    memory: int
    file: int


def write_features(path: Path, rows: int, dim: int, dtype: str) -> None:
    """Writes an .npy file [rows, dim] that repeats one block of random rows."""
    block = np.random.default_rng(0).standard_normal((min(rows, BLOCK_FLOATS // dim), dim), np.float32).astype(dtype)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": block.dtype.str, "fortran_order": False, "shape": (rows, dim)})
        for first in range(0, rows, len(block)):
            file.write(block[: rows - first].tobytes())


def write_classifier(path: Path, classes: int, dim: int) -> None:
    """Writes a classifier.npz of random rows."""
    rng = np.random.default_rng(1)
    np.savez(
        path,
        W=rng.standard_normal((classes, dim), np.float32),
        b=np.zeros(classes, np.float32),
        class_names=np.array([f"class {c}" for c in range(classes)]),
        mean=np.zeros(dim, np.float32),
        scale=np.full(dim, dim**-0.5, np.float32),
        temperature=np.float32(1),
    )


def measure(rows: int, dim: int, classes: int, dtype: str) -> Measured:
    """Runs the command once.

    The system reports the peak memory of all commands so far, so cases have to go from small to large.
    """
    with tempfile.TemporaryDirectory() as folder:
        features, out = Path(folder) / "x.npy", Path(folder) / "out.csv"
        write_features(features, rows, dim, dtype)
        write_classifier(Path(folder) / "classifier.npz", classes, dim)
        began = time.perf_counter()
        command = [sys.executable, "-m", "mmn_jax.predict", f"--model={folder}", f"--features={features}", f"--out={out}"]
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - began
        with open(out) as lines:
            assert sum(1 for _ in lines) == rows + 1
        return Measured(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, features.stat().st_size)


def _numbers(text):
    return [int(word) for word in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", type=_numbers, default=[128, 2048])
    parser.add_argument("--classes", type=_numbers, default=[250, 1000])
    parser.add_argument("--dtype", default="float32", choices=("float16", "float32"))
    arguments = parser.parse_args()
    print("| rows | d | classes | rows a second | seconds | memory, MB | file, MB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for dim, classes in zip(arguments.dims, arguments.classes, strict=True):
        seconds, memory, file = measure(arguments.rows, dim, classes, arguments.dtype)
        rate = f"{arguments.rows / seconds:.0f}"
        print(f"| {arguments.rows} | {dim} | {classes} | {rate} | {seconds:.1f} | {memory / 1e6:.0f} | {file / 1e6:.0f} |", flush=True)


if __name__ == "__main__":
    main()
