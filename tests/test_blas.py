"""One BLAS thread inside the block, as many as before after it, also where blocks overlap in several threads."""

import threading

import numpy as np  # noqa: F401  # brings a BLAS
from threadpoolctl import threadpool_info

from mmn_jax.blas import SMALL, one_thread


def threads():
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_blocks_in_each_other_and_in_several_threads_leave_the_number_as_it_was():
    with one_thread():
        pass
    before, entered, leave = threads(), threading.Event(), threading.Event()

    def other():
        with one_thread():
            entered.set()
            leave.wait()

    with one_thread():
        with one_thread(SMALL):
            assert threads() == {1}
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait()
    assert threads() == {1}
    leave.set()
    thread.join()
    assert threads() == before
    with one_thread(SMALL + 1):
        assert threads() == before
