"""The host: its memory, and the number of threads of the BLAS of numpy and LAPACK.

BLAS threads spin while they wait for each other. On small matrices this costs more time than the threads save; next to other busy programs,
or in a batch job with fewer cores than the machine, ten times as much.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from threadpoolctl import ThreadpoolController

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # cgroup versions 2 and 1; "max": no limit
SMALL = 4096  # rows of a matrix up to which one thread is enough


@functools.cache  # finding the libraries takes milliseconds
def _controller():
    import scipy.linalg  # noqa: F401  # its library is the LAPACK of JAX on a CPU, too

    return ThreadpoolController()


@contextlib.contextmanager
def one_thread(side: int = 0) -> Iterator[None]:
    """Limits the process's BLAS to one thread while the context is open, unless `side`, the rows of the matrices in it, is above SMALL.

    Outside the main thread it does nothing: the number of threads belongs to the process, and OpenBLAS can't raise it again from another
    thread.
    """
    if side > SMALL or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _controller().limit(limits=1, user_api="blas"):
        yield


def host_memory() -> int:
    """Returns the bytes of memory of this machine, or fewer if a container or batch job limits this process."""
    limits = [Path(path).read_text().strip() for path in CGROUP_LIMITS if Path(path).is_file()]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *(int(limit) for limit in limits if limit.isdigit())])
