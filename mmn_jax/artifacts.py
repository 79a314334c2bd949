"""Orbax save and restore, the one place: an artefact is a directory with arrays and a JSON record.

A save is atomic (Orbax writes beside the name and renames at the end), so a directory that
exists under its own name is whole. `cached` makes what is missing and returns what is there.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mmn_jax.mesh import agreed, first_process
from mmn_jax.types import BadInput

Arrays = dict[str, Any]
Record = dict[str, Any]


def _checkpointer():
    handler = ocp.CompositeCheckpointHandler(arrays=ocp.StandardCheckpointHandler(), record=ocp.JsonCheckpointHandler())
    return ocp.Checkpointer(handler)


def save(directory: Path, arrays: Arrays, record: Record) -> None:
    """Writes a nested dict of arrays and a JSON-able record; done when it returns."""
    arguments = ocp.args.Composite(arrays=ocp.args.StandardSave(jax.device_get(arrays)), record=ocp.args.JsonSave(record))
    with _checkpointer() as checkpointer:
        checkpointer.save(directory.absolute(), args=arguments)


def restore(directory: Path) -> tuple[Arrays, Record]:
    """Arrays as numpy, restored against the shapes the artefact itself states, and its record."""
    directory = directory.absolute()
    with _checkpointer() as checkpointer:
        shapes = checkpointer.metadata(directory).item_metadata["arrays"].tree
        target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        arguments = ocp.args.Composite(arrays=ocp.args.StandardRestore(target), record=ocp.args.JsonRestore())
        restored = checkpointer.restore(directory, args=arguments)
    return restored["arrays"], restored["record"]


def restore_record(directory: Path) -> Record:
    """The record alone."""
    with _checkpointer() as checkpointer:
        return checkpointer.restore(directory.absolute(), args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]


def _plain(value):
    return getattr(value, "__qualname__", None) or float(value)


def digest(*parts: Any) -> str:
    """A short hash of JSON-able parts, which names the artefact that depends on just these."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_plain).encode()).hexdigest()[:12]


def cached(directory: Path, make: Callable[[], tuple[Arrays, Record]]) -> tuple[Arrays, Record]:
    """The artefact at `directory`, made and saved first where it is missing; its record gains the seconds that took."""
    if not agreed(directory.exists()):
        start = time.perf_counter()
        arrays, record = make()
        save(directory, arrays, {**record, "seconds": round(time.perf_counter() - start, 2)})
    return restore(directory)


def writable_directory(path: str | Path) -> Path:
    """The directory, made where it is missing.

    Raises:
      BadInput: it cannot be made or written to.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--workdir={path}: cannot be made ({error.strerror})") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise BadInput(f"--workdir={path}: cannot be written to")
    return path


@contextlib.contextmanager
def occupied(path: str | Path) -> Iterator[Path]:
    """The workdir, which no other run can be in meanwhile; what interrupted saves left in its seeds' folders is removed. The first
    of several processes speaks for all of one run.

    Raises:
      BadInput: another run is at work there, or it cannot be made or written to.
    """
    path = writable_directory(path)
    if not first_process():
        yield path
        return
    with open(path / ".lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it however the process ends
        except OSError as error:
            lock.seek(0)
            raise BadInput(f"--workdir={path}: process {lock.read() or '?'} is at work there; wait for it, or give another") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for leftover in (*path.glob("seed-*/**/*.orbax-checkpoint-tmp*"), *path.glob("*.orbax-checkpoint-tmp*")):
            shutil.rmtree(leftover, ignore_errors=True)
        yield path


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; the first process does."""
    if not first_process():
        return
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)
