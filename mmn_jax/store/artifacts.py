"""Orbax save and restore, the one place: an artefact is a directory with arrays and a JSON record.

A save is atomic (Orbax writes beside the name and renames at the end), so a directory that exists under its own name was
written whole; checksums kept in it tell whether it still is. `cached` makes what is missing or damaged and returns what is there.
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
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from mmn_jax.devices import agreed, first_process, together
from mmn_jax.errors import BadInput
from mmn_jax.store.files import locked, plainly_named, whole
from mmn_jax.store.terminal import warn

Arrays = dict[str, Any]
Record = dict[str, Any]
LOCK, CODE = ".lock", ".code.sha256"  # of a workdir: the process that is at work there, the code that began it


@contextlib.contextmanager
def _checkpointer():
    handler = ocp.CompositeCheckpointHandler(arrays=ocp.StandardCheckpointHandler(), record=ocp.JsonCheckpointHandler())
    log = logging.getLogger("absl")  # Orbax raises what goes wrong, and logs it with a traceback, too
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with ocp.Checkpointer(handler) as checkpointer:
            yield checkpointer
    finally:
        log.setLevel(level)


def save(directory: Path, arrays: Arrays, record: Record) -> None:
    """Writes a nested dict of arrays and a JSON-able record, with their checksums; done when it returns.

    Raises:
      OSError: the disk is full, or cannot be written to.
    """
    arrays = jax.device_get(arrays)
    record = json.loads(json.dumps(record))  # as it will be read
    sealed = {"record": record, "arrays_sha256": _arrays_sha256(arrays)}
    sealed |= {"record_sha256": _record_sha256(sealed)}
    arguments = ocp.args.Composite(arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(sealed))
    try:
        with plainly_named(directory) as plain, _checkpointer() as checkpointer:
            checkpointer.save(plain, args=arguments)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(directory)) from error
    except ValueError as error:
        # TensorStore, which writes the arrays, raises a ValueError for every failure, a full disk among them; it has no exception of its
        # own and no attribute: the system's error number is in the text alone
        number = re.search(r"(?:os_error_code='|OS error )(\d+)", str(error))
        if not number:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(directory)) from error


def _arrays_sha256(arrays):
    """Hashes every array's place, type, shape and content."""
    found = hashlib.sha256()
    for place, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        leaf = np.asarray(leaf)
        found.update(repr((jax.tree_util.keystr(place), leaf.dtype.name, leaf.shape)).encode())
        found.update(np.ascontiguousarray(leaf).view(np.uint8).data if leaf.size else b"")
    return found.hexdigest()


def _record_sha256(sealed):
    return hashlib.sha256(json.dumps([sealed["record"], sealed["arrays_sha256"]], sort_keys=True).encode()).hexdigest()


def restore(directory: Path) -> tuple[Arrays, Record]:
    """Arrays as numpy, restored against the shapes the artefact itself states, and its record.

    Raises:
      BadInput: it is damaged.
    """
    return _intact(directory, _read_all)


def restore_record(directory: Path) -> Record:
    """The record alone.

    Raises:
      BadInput: it is damaged.
    """
    return _intact(directory, _read_record)[1]


def _read_all(checkpointer, directory):
    shapes = checkpointer.metadata(directory).item_metadata["arrays"].tree
    target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    arguments = ocp.args.Composite(arrays=ocp.args.StandardRestore(target), record=ocp.args.JsonRestore())
    restored = checkpointer.restore(directory, args=arguments)
    if restored["record"]["arrays_sha256"] != _arrays_sha256(restored["arrays"]):
        raise ValueError("other arrays")
    return restored["arrays"], restored["record"]


def _read_record(checkpointer, directory):
    return None, checkpointer.restore(directory, args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]


def _intact(directory, read):
    """What `read` finds, the record unsealed."""
    with plainly_named(directory) as plain:
        return _read_intact(directory, plain, read)


def _read_intact(directory, plain, read):
    """The same, from the path `plain`; messages name the directory."""
    try:
        with _checkpointer() as checkpointer:
            arrays, sealed = read(checkpointer, plain)
        if sealed["record_sha256"] != _record_sha256(sealed):
            raise ValueError("another record")
    except (MemoryError, jax.errors.JaxRuntimeError):  # the latter where another process is gone while all read together
        raise
    except Exception as error:  # a flipped bit shows in as many ways as there are readers below
        raise BadInput(f"{directory}: damaged; remove it, and the same command makes it again") from error
    return arrays, sealed["record"]


def kept(directory: Path) -> tuple[Arrays, Record] | None:
    """The artefact, None where there is none; a damaged one is removed, with a line that says so."""
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


class Checkpoints(NamedTuple):
    """Where work is kept on its way. read(like) → the tree of arrays of the last write, in the structure of `like`, or None.
    write(step, tree): takes the place of what was written before."""

    read: Callable[[Any], Any]
    write: Callable[[int, Any], None]


NO_CHECKPOINTS = Checkpoints(lambda like: None, lambda step, tree: None)


def checkpoints(folder: Path) -> Checkpoints:
    """Checkpoints in this folder, which its owner removes when the work is done; a damaged one is left aside."""

    def read(like):
        for path in sorted(folder.glob("step-*[0-9]"), reverse=True):
            found = kept(path)
            if found is not None:
                return jax.tree.unflatten(jax.tree.structure(like), [found[0][name] for name in sorted(found[0])])
        return None

    def write(step, tree):
        path = folder / f"step-{step:09d}"
        save(path, {f"{i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}, {})
        if first_process():
            for old in set(folder.iterdir()) - {path}:  # what an interrupted save left, too
                shutil.rmtree(old, ignore_errors=True)
        together()  # the others wait until they are gone

    return Checkpoints(read, write)


def digest(*parts: Any) -> str:
    """A short hash of JSON-able parts, which names the artefact that depends on just these."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=float).encode()).hexdigest()[:12]


def cached(directory: Path, make: Callable[[], tuple[Arrays, Record]]) -> tuple[Arrays, Record]:
    """The artefact at `directory`, made and saved first where it is missing; its record gains the seconds that took."""
    found = kept(directory)
    if found is not None:
        return found
    start = time.perf_counter()
    arrays, record = make()
    save(directory, arrays, {**record, "seconds": round(time.perf_counter() - start, 2)})
    return restore(directory)


def writable_directory(path: str | Path, flag: str = "--workdir") -> Path:
    """The directory, made where it is missing; flag: what gave it.

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
    """The workdir, which no other run can be in meanwhile, where its file system has locks; what interrupted saves left in its seeds'
    folders is then removed. Bad input before there is anything to keep leaves no new folder. The first of several processes speaks for
    all of one run.

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


def _clear_leftovers(path):
    """Removes what interrupted saves left."""
    for leftover in (*path.glob("seed-*/**/*.orbax-checkpoint-tmp*"), *path.glob("*.orbax-checkpoint-tmp*")):
        shutil.rmtree(leftover, ignore_errors=True)


def begun_by_other_code(workdir: Path) -> bool:
    """Whether the workdir was begun by another text of this package, of whose artefacts some may be kept: hashes tell what an artefact
    depends on, but for the code."""
    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))
    mark, now = workdir / CODE, hashlib.sha256(text).hexdigest()
    before = mark.read_text() if mark.is_file() else None
    if before is None:
        write_bytes(mark, now.encode())
    return before not in (None, now)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; the first process does."""
    if not first_process():
        return
    with whole(path) as part:
        part.write_bytes(content)
