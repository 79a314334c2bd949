"""All devices of all processes in one row: the heads of a bank and the rows of the chain are shared out over them."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax._src import xla_bridge  # nothing public tells whether JAX has begun to work
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mmn_jax.types import BadInput, warn

AXIS = "devices"
CACHED = 24 << 20  # bytes that stay in the caches of a CPU's core
BATCH_SHARE = 0.25  # of a device's memory: a batch is forecast by its arrays, without what XLA copies
EACH = PartitionSpec(AXIS)  # the first axis is shared out
SAME = PartitionSpec()  # every device holds all of it
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of versions 2 and 1; "max": none


def _cache_folder():
    """Where compiled programs are kept between runs, made where it is missing.

    Raises:
      OSError: it cannot be made, or not be written to.
      RuntimeError: the user has no home.
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
    """Compiled programs are kept between runs, in the user's cache folder unless JAX_COMPILATION_CACHE_DIR names another. Where there is
    none to write to, a line says so, and every run compiles its own."""
    try:
        if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
        jax.config.update("jax_compilation_cache_dir", _cache_folder())
    except (OSError, RuntimeError) as error:
        jax.config.update("jax_compilation_cache_dir", None)
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        told = "compiled programs are not kept for the next run"
        warn(f"{told} ({why}); JAX_COMPILATION_CACHE_DIR may name a folder for them")


_STARTED: list[int] = []  # the process in which JAX was at work when it forked


def _note_fork():
    if not _STARTED and xla_bridge.backends_are_initialized():
        _STARTED.append(os.getpid())


os.register_at_fork(before=_note_fork)


def start() -> None:
    """Starts JAX, before whatever computes with it.

    Raises:
      BadInput: this process was forked from one in which JAX was at work, where it would wait for ever; or there is no platform as
        JAX_PLATFORMS says.
    """
    if _STARTED and _STARTED[0] != os.getpid():
        told = "this process was forked from one in which JAX was at work, and its threads don't survive that"
        raise BadInput(f"JAX: {told}; start workers by spawn or forkserver (joblib: loky), or only predict in them")
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter without a word
        why = str(error).partition(" (set JAX_PLATFORMS=")[0] or "it has no device here"
        asked = jax.config.jax_platforms  # type: ignore[attr-defined]
        raise BadInput(f"JAX_PLATFORMS={asked or ''}: JAX cannot start ({why}); unset it, or name what this machine has: cpu") from error


class Compiled(NamedTuple):
    """How many programs were compiled, or read from the kept ones, and the seconds that this took."""

    programs: int
    seconds: float


def compile_clock() -> Callable[[], Compiled]:
    """Starts to count what is compiled from now on; the function returned gives the count so far."""
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
    """Joins the other processes of a run before JAX is used. coordinator: HOST:PORT of process 0, auto where JAX can find out, empty
    where there are no others.

    Raises:
      BadInput: JAX can't find out, or the others can't be reached; there is no coordinator, but one process is said to be of several.
    """
    if not coordinator:
        if processes is not None or process is not None:
            raise BadInput("--coordinator: is missing; with --processes or --process it must be HOST:PORT of process 0, or auto")
        return
    if coordinator != "auto" and not re.fullmatch(r"\S+:\d+", coordinator):
        raise BadInput(f"--coordinator={coordinator}: must be HOST:PORT of process 0, or auto")
    try:
        jax.distributed.initialize(None if coordinator == "auto" else coordinator, processes, process)
    except (ValueError, TypeError, RuntimeError) as error:
        raise BadInput(f"--coordinator={coordinator}: {' '.join(str(error).split())}") from error


def all_devices() -> Mesh:
    """The mesh of every device there is."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh, tree: Any) -> Any:
    """The arrays on every device of the mesh; all processes hold the same ones."""
    return jax.device_put(tree, NamedSharding(mesh, SAME))


def gathered(tree: Any) -> Any:
    """The arrays as numpy, whole in every process, wherever their parts lie."""
    return multihost_utils.process_allgather(tree, tiled=True) if jax.process_count() > 1 else jax.device_get(tree)


def device_memory() -> int:
    """Bytes of memory of one device; of this machine where devices are its processor."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["bytes_limit"] if stats else host_memory()


def batch_memory() -> int:
    """Bytes that the problems which a device solves at once may take by default: what stays in the caches of a CPU's core, a share of the
    memory of any other device, where larger batches are faster."""
    return CACHED if jax.default_backend() == "cpu" else int(BATCH_SHARE * device_memory())


def out_of_memory(error: BaseException) -> bool:
    """Whether JAX raised it because a device's memory was full."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def host_memory() -> int:
    """Bytes of memory of this machine, or of the container or batch job that this process is held to."""
    limits = [Path(path).read_text().strip() for path in CGROUP_LIMITS if Path(path).is_file()]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *(int(limit) for limit in limits if limit.isdigit())])


def first_process() -> bool:
    """Whether this process is the one that prints and writes plain files."""
    return jax.process_index() == 0


def together() -> None:
    """Waits until every process is here."""
    agreed(True)


def agreed(value: bool) -> bool:
    """What the first process says, so that all of them go the same way."""
    return bool(multihost_utils.broadcast_one_to_all(value)) if jax.process_count() > 1 else value
