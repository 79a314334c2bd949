"""Named PRNG streams: a stream depends on the run's seed and its own name only, so adding one moves no other."""

import zlib

import jax


def stream(seed: int, *names: str | int) -> jax.Array:
    """The key of the stream named by a path of strings and integers, e.g. stream(0, "kshot", 4)."""
    key = jax.random.key(seed)
    for name in names:
        data = name if isinstance(name, int) else zlib.crc32(name.encode())
        key = jax.random.fold_in(key, data)
    return key
