"""Transfer: who moves, in which units, and who keeps their row."""

import jax
import jax.numpy as jnp
import numpy as np

from mmn_jax.metamodelnet.regressor import Context, Regressor, entry_level
from mmn_jax.metamodelnet.transfer import transfer_rows

LADDER = (1, 2, 4, 8, 16, 32, 64)
COUNTS = np.array([1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 1132])
CONTEXT = Context(None, jnp.zeros(len(COUNTS), jnp.int32))
THETA = np.random.default_rng(0).normal(size=(len(COUNTS), 4)).astype(np.float32)


def step(variables, theta, shots, context, train):
    """Moves every row by 1 + its entry block."""
    assert train is False  # known when it is compiled
    return theta + 1.0 + entry_level(shots, LADDER)[:, None].astype(theta.dtype), variables


stepper = Regressor(None, step)


def test_tail_rows_move_by_their_own_block_and_many_shot_rows_stay():
    moved = transfer_rows(stepper, {"unit": 1.0}, THETA, COUNTS, CONTEXT, 128)
    blocks = np.array([0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6])
    np.testing.assert_allclose(moved[:13] - THETA[:13], np.repeat(1.0 + blocks[:, None], 4, 1), rtol=1e-5)
    np.testing.assert_array_equal(moved[13:], THETA[13:])


def test_rows_are_moved_in_the_unit_of_training():
    moved = transfer_rows(stepper, {"unit": np.float32(10)}, THETA, COUNTS, CONTEXT)
    np.testing.assert_allclose(moved[0] - THETA[0], 10.0, rtol=1e-4)
    assert moved.dtype == np.float32 and jax.device_count() == 8
