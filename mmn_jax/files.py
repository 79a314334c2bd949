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
    target = Path(os.path.realpath(path))
    plain = target.is_file() or not target.exists()
    part = target.with_name(target.name + ".part") if plain else target
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
