"""The mesh of all devices of all processes, over which the heads of a bank and the training of the chain are sharded, and the options
that programs are compiled with for them."""

import os
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np
from jax._src import xla_bridge  # no public function says whether JAX has been initialised
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mmn_jax.errors import BadInput
from mmn_jax.machine import host_memory

AXIS = "devices"
CACHED = 24 << 20  # bytes that fit into the caches of a CPU core
BATCH_SHARE = 0.25  # of a device's memory: the estimate for a batch counts its arrays, without XLA's copies of them
EACH = PartitionSpec(AXIS)  # the first axis is sharded
SAME = PartitionSpec()  # replicated on every device

# `compiler_options` of every jitted function with matrix products. For an NVIDIA GPU, XLA takes up to fifteen times as long to compile a
# program with products by Triton as with cuBLAS, for the same speed (docs/speed.md). Other compilers may not know the option, and
# asking JAX for its platform here would start it: so it depends on JAX's plugin for such a GPU.
COMPILER_OPTIONS = {"xla_gpu_enable_triton_gemm": False} if any(find_spec(f"jax_cuda{cuda}_plugin") for cuda in (12, 13)) else {}
# Those of the solvers. XLA's former way of compiling for a CPU takes half the time, and its programs are as fast. A later JAX may not know
# it any more.
_FORMER = not find_spec("libtpu") and jax.__version_info__ < (0, 13)
SOLVER_OPTIONS = COMPILER_OPTIONS | ({"xla_cpu_use_fusion_emitters": False} if _FORMER else {})


_STARTED: list[int] = []  # the id of the process that had initialised JAX when it forked


def _note_fork():
    if not _STARTED and xla_bridge.backends_are_initialized():
        _STARTED.append(os.getpid())


os.register_at_fork(before=_note_fork)


def start() -> None:
    """Initialises JAX, so that errors in doing so are reported before anything is computed.

    Raises:
      BadInput: this process was forked from one that had initialised JAX, in which case JAX would hang; or JAX_PLATFORMS names a platform
        that isn't there.
    """
    if _STARTED and _STARTED[0] != os.getpid():
        reason = "this process was forked from one that had initialised JAX, whose threads don't survive a fork"
        raise BadInput(f"JAX: {reason}; start workers by spawn or forkserver (joblib: loky), or only predict in them")
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an AssertionError has no message
        why = str(error).partition(" (set JAX_PLATFORMS=")[0] or "it has no device here"
        asked = jax.config.jax_platforms  # type: ignore[attr-defined]
        raise BadInput(f"JAX_PLATFORMS={asked or ''}: JAX cannot start ({why}); unset it, or name what this machine has: cpu") from error


def all_devices() -> Mesh:
    """Returns the mesh of all devices of all processes."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def own_devices() -> Mesh:
    """Returns the mesh of the devices of this process."""
    return Mesh(np.array(jax.local_devices()), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh, tree: Any) -> Any:
    """Puts the arrays of a tree, which are the same in all processes, on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, SAME))


def gathered(tree: Any) -> Any:
    """Returns the arrays of a tree as whole numpy arrays in every process, wherever their shards are."""
    return multihost_utils.process_allgather(tree, tiled=True) if jax.process_count() > 1 else jax.device_get(tree)


def device_memory() -> int:
    """Returns the bytes of memory of one device, or of the host if devices are its CPU."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["bytes_limit"] if stats else host_memory()


def batch_memory() -> int:
    """Returns the default limit in bytes of what one device solves at once: the caches of a core on a CPU, a share of the memory on any
    other device, where larger batches are faster."""
    return CACHED if jax.default_backend() == "cpu" else int(BATCH_SHARE * device_memory())


def out_of_memory(error: BaseException) -> bool:
    """Returns whether an error is JAX's for a device that has run out of memory."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def first_process() -> bool:
    """Returns whether this process is the first, which alone prints and writes plain files."""
    return jax.process_index() == 0


def together() -> None:
    """Waits until every process has called it."""
    agreed(True)


def agreed(value: bool) -> bool:
    """Returns the value of the first process in all of them, so that all take the same branch."""
    return bool(multihost_utils.broadcast_one_to_all(value)) if jax.process_count() > 1 else value
