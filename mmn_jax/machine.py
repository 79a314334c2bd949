"""This machine: how much memory it has, and how many threads numpy's and LAPACK's BLAS use.

BLAS threads spin while they wait for each other. On small matrices that costs more than it gains; beside other busy programs, or in a
batch job with fewer cores than the machine, it costs ten times as much.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from threadpoolctl import ThreadpoolController

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of versions 2 and 1; "max": none
SMALL = 1024  # rows of a matrix up to which one thread is enough


@functools.cache  # looking for libraries takes milliseconds
def _controller():
    import scipy.linalg  # noqa: F401  # its library is the LAPACK of JAX on a CPU, too

    return ThreadpoolController()


@contextlib.contextmanager
def one_thread(side: int = 0) -> Iterator[None]:
    """Inside, the process's BLAS uses one thread, unless matrices have `side` rows and that is many. Does nothing outside of the main
    thread: the number belongs to the process, and OpenBLAS can't be given more threads again from another one."""
    if side > SMALL or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _controller().limit(limits=1, user_api="blas"):
        yield


def host_memory() -> int:
    """Bytes of memory of this machine, or of the container or batch job that this process is held to."""
    limits = [Path(path).read_text().strip() for path in CGROUP_LIMITS if Path(path).is_file()]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *(int(limit) for limit in limits if limit.isdigit())])
