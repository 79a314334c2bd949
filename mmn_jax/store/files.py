"""Writes files atomically, locks them, and gives directories paths that every library takes literally."""

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

LONGEST = 250  # bytes of a name that leave room for ".part", as file systems allow 255
PLAIN = re.compile(r"[\w./ +,=@-]*", re.ASCII)  # libraries may take other characters for a pattern or a URL


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Writes a file atomically: it gets its name when the block ends, and leaves nothing behind if the block fails.

    A symbolic link stays one; a pipe or a device, such as /dev/stdout, is written to directly.

    Yields:
      The path to write to.

    Raises:
      OSError: `path`, which it names, cannot be written.
    """
    target = Path(os.path.realpath(path))
    plain = target.is_file() or not target.exists()
    part = target.with_name(_part_name(target.name)) if plain else target
    try:
        yield part
        if plain:
            with open(part, "rb") as file:
                os.fsync(file.fileno())  # or a crash of the machine could leave an empty file of that name
            part.replace(target)
    except OSError as error:  # an error of a write names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        if plain:
            with contextlib.suppress(OSError):  # it was renamed, or never made
                part.unlink()


def _part_name(name):
    """Returns the file's temporary name, which isn't too long if its own isn't."""
    return (name if len(os.fsencode(name)) <= LONGEST else hashlib.sha256(os.fsencode(name)).hexdigest()) + ".part"


def locked(file: IO[str], where: str) -> bool:
    """Locks an open file until this process ends, however it ends.

    Args:
      file: open for reading and writing; its content is the id of the process that holds the lock.
      where: what messages call its place.

    Returns:
      Whether it is locked; False, with a warning, if the file system has no locks.

    Raises:
      BadInput: another process holds the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise BadInput(f"{where}: process {file.read() or '?'} is at work there; wait for it, or name another") from error
    except OSError as error:
        warn(f"{where}: cannot be locked ({error.strerror}); make sure that no other run is at work there")
        return False
    return True


@contextlib.contextmanager
def plainly_named(directory: Path) -> Iterator[Path]:
    """Gives a directory a path for libraries that take characters such as [ or \\ for a pattern or a URL.

    Args:
      directory: it need not exist, and its own name holds no such character.

    Yields:
      The directory's absolute path; if that holds such characters, one through a temporary link to its parent, which is made if missing.

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
