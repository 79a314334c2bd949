"""A file that is there whole, or not at all; a lock on one; a directory under a name that any library takes as it is."""

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mmn_jax.errors import BadInput
from mmn_jax.store.terminal import warn

LONGEST = 250  # bytes of a name that may get an ending of 5, where file systems allow 255
PLAIN = re.compile(r"[\w./ +,=@-]*", re.ASCII)  # a path of other characters may be read as a pattern, a URL or not at all


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what becomes the file `path` when the block ends, and is removed where it fails. A link stays one; a pipe or a
    device, such as /dev/stdout, is written to as it comes.

    Raises:
      OSError: naming `path`, where it cannot be written.
    """
    target = Path(os.path.realpath(path))
    plain = target.is_file() or not target.exists()
    part = target.with_name(_part_name(target.name)) if plain else target
    try:
        yield part
        if plain:
            with open(part, "rb") as file:
                os.fsync(file.fileno())  # or a machine that stops could leave an empty file of that name
            part.replace(target)
    except OSError as error:  # a write names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        if plain:
            with contextlib.suppress(OSError):  # gone once it has its name, or never made
                part.unlink()


def _part_name(name):
    """What the file is called until it is whole, by a name that isn't too long where its own isn't."""
    return (name if len(os.fsencode(name)) <= LONGEST else hashlib.sha256(os.fsencode(name)).hexdigest()) + ".part"


def locked(file: IO[str], where: str) -> bool:
    """Locks an open file for this process, until it ends however it ends; where the file system has no locks, a line says so and the
    answer is False. The file's content is who holds the lock, `where` what a message calls its place.

    Raises:
      BadInput: another process holds the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise BadInput(f"{where}: process {file.read() or '?'} is at work there; wait for it, or give another") from error
    except OSError as error:
        warn(f"{where}: cannot be locked ({error.strerror}); make sure that no other run is at work there")
        return False
    return True


@contextlib.contextmanager
def plainly_named(directory: Path) -> Iterator[Path]:
    """The directory itself; through a temporary link to its parent, which is made where it is missing, where the path holds characters
    such as [ or \\. For libraries that take a path for a pattern or a URL; the directory's own name is plain.

    Raises:
      OSError: the parent cannot be made.
    """
    directory = directory.absolute()
    if PLAIN.fullmatch(str(directory)):
        yield directory
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mmn_jax-", dir=None if PLAIN.fullmatch(tempfile.gettempdir()) else "/tmp") as folder:
        link = Path(folder) / "parent"
        link.symlink_to(directory.parent)
        yield link / directory.name
