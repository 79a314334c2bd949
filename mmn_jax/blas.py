"""How many threads numpy's and LAPACK's BLAS use: one where matrices are small.

BLAS's threads spin while they wait for each other. On small matrices that costs more than it gains, and beside other busy programs, or on
as many cores as a batch job is held to, it costs ten times as much.
"""

import contextlib
import functools
import threading
from collections.abc import Iterator

from threadpoolctl import ThreadpoolController

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
