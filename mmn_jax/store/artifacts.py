"""Saves and restores artefacts by Orbax: directories with arrays and a JSON record.

A save is atomic (Orbax writes under a temporary name and renames at the end), so an artefact under its own name was written completely;
its checksums show later damage. `cached` returns an artefact and makes it first if it is missing or damaged.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mmn_jax.devices import agreed, first_process, together
from mmn_jax.errors import BadInput
from mmn_jax.store.files import locked, plainly_named, whole
from mmn_jax.store.terminal import warn

Arrays = dict[str, Any]
Record = dict[str, Any]
LOCK, CODE = ".lock", ".code.sha256"  # files of a workdir: which process is at work there, which version of the code created it


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences Orbax, which logs a traceback of every exception that it raises."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raises every error of the disk as an `OSError` that names the path."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    except Exception as error:
        # TensorStore, which writes the arrays, raises a ValueError for a full disk, too; it has no exception of its own and no
        # attribute for the system's error number, which is in the text alone
        number = re.search(r"(?:os_error_code='|OS error )(\d+)", str(error))
        if not number:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


@contextlib.contextmanager
def _checkpointer():
    handler = ocp.CompositeCheckpointHandler(arrays=ocp.StandardCheckpointHandler(), record=ocp.JsonCheckpointHandler())
    with quiet(), ocp.Checkpointer(handler) as checkpointer:
        yield checkpointer


def save(directory: Path, arrays: Arrays, record: Record) -> None:
    """Saves an artefact with its checksums; it is on the disk when this returns.

    Args:
      directory: the artefact's, which doesn't exist yet.
      arrays: nested dict of arrays.
      record: JSON-able.

    Raises:
      OSError: the disk is full, or cannot be written to.
    """
    arrays = jax.device_get(arrays)
    record = json.loads(json.dumps(record))  # as it will be restored
    sealed = {"record": record, "arrays_sha256": arrays_sha256(arrays)}
    sealed |= {"record_sha256": _record_sha256(sealed)}
    arguments = ocp.args.Composite(arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(sealed))
    with disk_errors(directory), plainly_named(directory) as plain, _checkpointer() as checkpointer:
        checkpointer.save(plain, args=arguments)


def arrays_sha256(arrays: Any) -> str:
    """Hashes the path, type, shape and content of every array."""
    found = hashlib.sha256()
    for place, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        leaf = np.asarray(leaf)
        found.update(repr((jax.tree_util.keystr(place), leaf.dtype.name, leaf.shape)).encode())
        found.update(np.ascontiguousarray(leaf).view(np.uint8).data if leaf.size else b"")
    return found.hexdigest()


def _record_sha256(sealed: Record) -> str:
    return hashlib.sha256(json.dumps([sealed["record"], sealed["arrays_sha256"]], sort_keys=True).encode()).hexdigest()


def restore(directory: Path) -> tuple[Arrays, Record]:
    """Restores an artefact.

    Returns:
      Its arrays as numpy, in the shapes that its own metadata state, and its record.

    Raises:
      BadInput: it is damaged.
    """
    return _intact(directory, _read_all)


def restore_record(directory: Path) -> Record:
    """Restores the record of an artefact without its arrays.

    Raises:
      BadInput: it is damaged.
    """
    return _intact(directory, _read_record)[1]


def _read_all(checkpointer: ocp.Checkpointer, directory: Path) -> tuple[Arrays, Record]:
    shapes = checkpointer.metadata(directory).item_metadata["arrays"].tree
    target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    arguments = ocp.args.Composite(arrays=ocp.args.StandardRestore(target), record=ocp.args.JsonRestore())
    restored = checkpointer.restore(directory, args=arguments)
    if restored["record"]["arrays_sha256"] != arrays_sha256(restored["arrays"]):
        raise ValueError("the arrays' checksum differs")
    return restored["arrays"], restored["record"]


def _read_record(checkpointer: ocp.Checkpointer, directory: Path) -> tuple[None, Record]:
    return None, checkpointer.restore(directory, args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]


def _intact(directory: Path, read: Callable[[ocp.Checkpointer, Path], tuple[Any, Record]]) -> tuple[Any, Record]:
    """Applies `read` to the artefact; returns its arrays and its record without the checksums."""
    with plainly_named(directory) as plain:
        try:
            with _checkpointer() as checkpointer:
                arrays, sealed = read(checkpointer, plain)
            if sealed["record_sha256"] != _record_sha256(sealed):
                raise ValueError("the record's checksum differs")
        except (MemoryError, jax.errors.JaxRuntimeError):  # the latter if another process dies while all read together
            raise
        except Exception as error:  # a flipped bit may raise anything in Orbax, TensorStore or JSON
            raise BadInput(f"{directory}: damaged; remove it, and the same command makes it again") from error
    return arrays, sealed["record"]


def kept(directory: Path) -> tuple[Arrays, Record] | None:
    """Restores the artefact, None if there is none; a damaged one is removed with a warning."""
    if not agreed(directory.exists()):
        return None
    try:
        found = restore(directory)
    except BadInput:
        found = None
    if agreed(found is not None):
        return found or restore(directory)
    if first_process():
        warn(f"{directory}: damaged, it is made again")
        shutil.rmtree(directory, ignore_errors=True)
    together()  # the others wait until it is gone
    return None


def digest(*parts: Any) -> str:
    """Hashes JSON-able parts to 12 hexadecimal digits, which name the artefact that depends on just these."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=float).encode()).hexdigest()[:12]


def cached(directory: Path, make: Callable[[], tuple[Arrays, Record]]) -> tuple[Arrays, Record]:
    """Restores the artefact at `directory`, or makes and saves it first if it is missing or damaged.

    Args:
      directory: the artefact's.
      make: returns its arrays and record.

    Returns:
      The arrays and the record, which gains `seconds`, the time it took to make.
    """
    found = kept(directory)
    if found is not None:
        return found
    start = time.perf_counter()
    arrays, record = make()
    save(directory, arrays, {**record, "seconds": round(time.perf_counter() - start, 2)})
    return restore(directory)


def writable_directory(path: str | Path, flag: str = "--workdir") -> Path:
    """Returns the directory, made if it is missing; messages name the flag that gave it.

    Raises:
      BadInput: it cannot be made or written to.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{flag}={path}: cannot be made ({error.strerror})") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise BadInput(f"{flag}={path}: cannot be written to")
    return path


@contextlib.contextmanager
def occupied(path: str | Path) -> Iterator[Path]:
    """Holds the workdir for this run alone; of several processes of one run the first holds it for all.

    What interrupted saves left in it is removed first, unless its file system has no locks. If bad input ends the run before there is
    anything to keep, a new folder is removed again.

    Yields:
      The workdir, made if it is missing.

    Raises:
      BadInput: another run is at work there, or it cannot be made or written to.
    """
    new = not Path(path).exists()
    path = writable_directory(path)
    if not first_process():
        yield path
        return
    with open(path / LOCK, "a+") as lock:
        if locked(lock, f"--workdir={path}"):
            _clear_leftovers(path)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield path
        except BadInput:
            if new and {each.name for each in path.iterdir()} <= {LOCK, CODE}:
                shutil.rmtree(path)
            raise


def _clear_leftovers(path: Path) -> None:
    """Removes the temporary folders of interrupted saves."""
    for leftover in (*path.glob("seed-*/**/*.orbax-checkpoint-tmp*"), *path.glob("*.orbax-checkpoint-tmp*")):
        shutil.rmtree(leftover, ignore_errors=True)


def begun_by_other_code(workdir: Path) -> bool:
    """Returns whether another version of this package created the workdir.

    Its artefacts may be stale: their hashes cover settings and data, not code.
    """
    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))
    mark, now = workdir / CODE, hashlib.sha256(text).hexdigest()
    before = mark.read_text() if mark.is_file() else None
    if before is None:
        write_bytes(mark, now.encode())
    return before not in (None, now)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically; only the first process does."""
    if not first_process():
        return
    with whole(path) as part:
        part.write_bytes(content)
