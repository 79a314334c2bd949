"""Sets JAX up for a command: the cache of compiled programs, the time spent compiling, and the other processes of a run."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from mmn_jax.errors import BadInput
from mmn_jax.store.terminal import warn


def _cache_folder():
    """Returns the folder of compiled programs, made if it is missing.

    Raises:
      OSError: it cannot be made or written to.
      RuntimeError: the user has no home directory.
    """
    named = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]  # defined when JAX is imported
    if named and "://" in named:  # a bucket
        return named
    folder = Path(named or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmn_jax")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    return str(named or folder)


def keep_programs() -> None:
    """Makes JAX cache compiled programs between runs.

    They go to the user's cache folder, or to JAX_COMPILATION_CACHE_DIR. If neither can be written to, it warns and nothing is cached.
    """
    try:
        if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]  # likewise
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
        jax.config.update("jax_compilation_cache_dir", _cache_folder())
    except (OSError, RuntimeError) as error:
        jax.config.update("jax_compilation_cache_dir", None)
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        warn(f"compiled programs are not cached for the next run ({why}); set JAX_COMPILATION_CACHE_DIR to a folder for them")


class Compiled(NamedTuple):
    """How many programs were compiled or read from the cache, and the seconds that this took."""

    programs: int
    seconds: float


def compile_clock() -> Callable[[], Compiled]:
    """Starts counting compilations; the function it returns gives the count so far."""
    spent: list[tuple[str, float]] = []

    def note(event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            spent.append((event, duration_secs))

    def count():
        programs = sum(event.endswith("/backend_compile_duration") for event, _ in spent)
        return Compiled(programs, sum(seconds for _, seconds in spent))

    jax.monitoring.register_event_duration_secs_listener(note)
    return count


def join(coordinator: str, processes: int | None, process: int | None) -> None:
    """Joins the other processes of a run, before JAX is used.

    Args:
      coordinator: HOST:PORT of process 0, auto if JAX can find it, empty if this process is alone.
      processes: how many there are; None if JAX can find it.
      process: the index of this one; None if JAX can find it.

    Raises:
      BadInput: the coordinator is missing or malformed, can't be found or can't be reached.
    """
    if not coordinator:
        if processes is not None or process is not None:
            raise BadInput("--coordinator: is missing; --processes and --process need it, HOST:PORT of process 0 or auto")
        return
    if coordinator != "auto" and not re.fullmatch(r"\S+:\d+", coordinator):
        raise BadInput(f"--coordinator={coordinator}: must be HOST:PORT of process 0, or auto")
    try:
        jax.distributed.initialize(None if coordinator == "auto" else coordinator, processes, process)
    except (ValueError, TypeError, RuntimeError) as error:
        raise BadInput(f"--coordinator={coordinator}: {' '.join(str(error).split())}") from error
