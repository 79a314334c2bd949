"""What this machine can do at most, measured in the run that is held against it."""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


def peak() -> float:
    """FLOP/s of a large square float32 product on this machine's default device."""
    size = 4096 if jax.default_backend() == "cpu" else 8192
    a = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), jnp.float32)
    product = jax.jit(partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST))
    jax.block_until_ready(product(a, a))
    rates = []
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(product(a, a))
        rates.append(2 * size**3 / (time.perf_counter() - began))
    return max(rates)
