"""One BLAS thread inside the block of small matrices, as many as before after it; other threads leave the number alone."""

import threading

import scipy.linalg  # noqa: F401  # brings a BLAS
from threadpoolctl import ThreadpoolController, threadpool_info

from mmn_jax.machine import SMALL, one_thread


def threads():
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_small_matrices_get_one_thread_in_the_main_thread():
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        seen = []

        def other():
            with one_thread():
                seen.append(threads())

        with one_thread(SMALL), one_thread():
            assert threads() == {1}
        assert threads() == {2}
        with one_thread(SMALL + 1):
            assert threads() == {2}
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert seen == [{2}] and threads() == {2}
