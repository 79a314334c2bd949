"""Measures the peak rates of this machine, in the same process as what is compared with them."""

import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision


def _seconds(function: Callable, argument: jax.Array) -> float:
    """Times one call of the compiled function: the fastest of a few rounds, whose calls run asynchronously."""
    jax.block_until_ready(function(argument))
    calls, rounds = (1, 3) if jax.default_backend() == "cpu" else (10, 3)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready([function(argument) for _ in range(calls)])
        times.append((time.perf_counter() - began) / calls)
    return min(times)


def peak(dtype: jnp.dtype = jnp.float32, precision: Precision = Precision.HIGHEST, size: int = 0) -> float:
    """Measures FLOP/s of a square matrix product on the default device.

    Args:
      dtype: of the matrices.
      precision: of the product.
      size: of the matrices; 0: large enough to fill the device.
    """
    size = size or (4096 if jax.default_backend() == "cpu" else 8192)
    a = jnp.asarray(np.random.default_rng(0).standard_normal((size, size), np.float32), dtype)
    return 2 * size**3 / _seconds(jax.jit(lambda a: jnp.matmul(a, a, precision=precision)), a)


def copy_rate() -> float:
    """Measures bytes read and written per second by the default device while it negates a large array."""
    size = 2**25 if jax.default_backend() == "cpu" else 2**29
    array = jax.random.normal(jax.random.key(0), (size,))
    return 2 * array.nbytes / _seconds(jax.jit(partial(jnp.multiply, -1.0)), array)
