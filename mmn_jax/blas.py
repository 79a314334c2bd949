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


class _Limit:
    """The limit on the process's BLAS, and how many blocks are inside it."""

    def __init__(self) -> None:
        self.lock, self.inside, self.set = threading.Lock(), 0, contextlib.ExitStack()

    def enter(self) -> None:
        with self.lock:
            if not self.inside:
                self.set.enter_context(_controller().limit(limits=1, user_api="blas"))
            self.inside += 1

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.set.close()


_limit = _Limit()  # BLAS has one number of threads for the whole process


@contextlib.contextmanager
def one_thread(side: int = 0) -> Iterator[None]:
    """Inside, the process's BLAS uses one thread, unless matrices have `side` rows and that is many. Blocks may lie in each other and run
    in several threads at once: the number from before comes back when the last of them has ended."""
    if side > SMALL:
        yield
        return
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()
