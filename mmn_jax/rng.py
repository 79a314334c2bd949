"""Named PRNG streams: a stream depends on the run's seed and its own name only, so adding one moves no other. And draws of any number
on the host, by few programs: JAX compiles one for every shape, which takes longer than to run it.
"""

import math
import zlib

import jax
import numpy as np

SMALLEST = 4096  # numbers are drawn in powers of two from here on; the first of more numbers are those of fewer


def stream(seed: int, *names: str | int) -> jax.Array:
    """Returns the key of the stream that a path of strings and integers names, e.g. stream(0, "kshot", 4)."""
    return fold(jax.random.key(seed), *names)


def fold(key: jax.Array, *names: str | int) -> jax.Array:
    """Returns the key of a named stream below `key`: stream(seed, *names) is fold(jax.random.key(seed), *names)."""
    for name in names:
        data = name if isinstance(name, int) else zlib.crc32(name.encode())
        key = jax.random.fold_in(key, data)
    return key


def generator(key: jax.Array) -> np.random.Generator:
    """A generator of draws on the host that a key begins."""
    return np.random.default_rng(int(jax.random.bits(key)))


def _size(n):
    return max(SMALLEST, 1 << (n - 1).bit_length())


def uniform(key: jax.Array, n: int) -> np.ndarray:
    """[n] numbers in [0, 1), those of jax.random.uniform."""
    return np.asarray(jax.random.uniform(key, (_size(n),)))[:n]


def permutation(key: jax.Array, n: int) -> np.ndarray:
    """[n] a random order of 0..n-1, that of jax.random.permutation: sorted by 32 random bits, again where n is so
    large that some are likely to be equal."""
    order = np.arange(n)
    for _ in range(math.ceil(3 * math.log(max(1, n)) / math.log(2**32 - 1))):
        key, draw = jax.random.split(key)
        order = order[np.argsort(np.asarray(jax.random.bits(draw, (_size(n),)))[:n], kind="stable")]
    return order
