"""A file that is there whole, or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what becomes the file `path` when the block ends, and is removed where it fails. A link stays one; a pipe or a
    device, such as /dev/stdout, is written to as it comes.

    Raises:
      OSError: naming `path`, where it cannot be written.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        yield path
        return
    part = target.with_name(target.name + ".part")
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())  # or a machine that stops could leave an empty file of that name
        part.replace(target)
    except OSError as error:  # a write names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # gone once it has its name, or never made
            part.unlink()
