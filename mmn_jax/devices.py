"""All devices of all processes in one row: the heads of a bank and the rows of the chain are shared out over them."""

import os
from typing import Any

import jax
from jax._src import xla_bridge  # nothing public tells whether JAX has begun to work
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mmn_jax.errors import BadInput
from mmn_jax.machine import host_memory

AXIS = "devices"
CACHED = 24 << 20  # bytes that stay in the caches of a CPU's core
BATCH_SHARE = 0.25  # of a device's memory: a batch is forecast by its arrays, without what XLA copies
EACH = PartitionSpec(AXIS)  # the first axis is shared out
SAME = PartitionSpec()  # every device holds all of it


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


def first_process() -> bool:
    """Whether this process is the one that prints and writes plain files."""
    return jax.process_index() == 0


def together() -> None:
    """Waits until every process is here."""
    agreed(True)


def agreed(value: bool) -> bool:
    """What the first process says, so that all of them go the same way."""
    return bool(multihost_utils.broadcast_one_to_all(value)) if jax.process_count() > 1 else value
