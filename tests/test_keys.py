"""Random streams and draws: a stream is its path, a draw on the host is JAX's own."""

import jax
import numpy as np
import pytest

from mmn_jax.rng import permutation, stream, uniform


def test_a_stream_is_identified_by_its_seed_and_its_whole_path():
    paths = [(0, "kshot", 1), (0, "kshot", 2), (0, 1, "kshot"), (0, "kshot"), (1, "kshot", 1)]
    drawn = [tuple(np.asarray(jax.random.key_data(stream(*path)))) for path in paths]
    assert len(set(drawn)) == len(paths)
    assert drawn[0] == tuple(np.asarray(jax.random.key_data(stream(0, "kshot", 1))))


@pytest.mark.parametrize("n", [1, 2, 1625, 1626, 1627, 5000])  # from 1,626 on, bits are drawn twice
def test_draws_are_those_of_jax(n):
    key = stream(3, "draws")
    np.testing.assert_array_equal(permutation(key, n), jax.random.permutation(key, n))
    np.testing.assert_array_equal(uniform(key, n), jax.random.uniform(key, (n,)))


def test_nothing_has_an_order():
    assert permutation(stream(0), 0).shape == uniform(stream(0), 0).shape == (0,)
