"""Named PRNG streams, and draws on the host.

A stream depends only on the seed of a run and its own name, so a new one changes none of the others. Draws on the host share a few compiled
programs whatever their number: JAX would compile one for every shape, which takes longer than running it.
"""

import math
import zlib

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

SMALLEST = 4096  # numbers are drawn by powers of two, at least this many; a longer draw begins with the numbers of a shorter one


def stream(seed: int, *names: str | int) -> Key[Array, ""]:
    """Returns the key of the stream that a path of strings and integers names, e.g. stream(0, "kshot", 4)."""
    return fold(jax.random.key(seed), *names)


def fold(key: Key[Array, ""], *names: str | int) -> Key[Array, ""]:
    """Returns the key of a named stream below `key`: stream(seed, *names) is fold(jax.random.key(seed), *names)."""
    for name in names:
        data = name if isinstance(name, int) else zlib.crc32(name.encode())
        key = jax.random.fold_in(key, data)
    return key


def generator(key: Key[Array, ""]) -> np.random.Generator:
    """Returns a numpy generator seeded by a key."""
    return np.random.default_rng(int(jax.random.bits(key)))


def _size(n):
    return max(SMALLEST, 1 << (n - 1).bit_length())


def uniform(key: Key[Array, ""], n: int) -> Float[np.ndarray, " {n}"]:
    """Draws n numbers in [0, 1), the same as jax.random.uniform."""
    return np.asarray(jax.random.uniform(key, (_size(n),)))[:n]


def permutation(key: Key[Array, ""], n: int) -> Int[np.ndarray, " {n}"]:
    """Draws a random order of 0..n−1, the same as jax.random.permutation: it sorts by 32 random bits, and again if n is so large that some
    of these are likely to be equal."""
    order = np.arange(n)
    for _ in range(math.ceil(3 * math.log(max(1, n)) / math.log(2**32 - 1))):
        key, draw = jax.random.split(key)
        order = order[np.argsort(np.asarray(jax.random.bits(draw, (_size(n),)))[:n], kind="stable")]
    return order
