"""Rows of the long-tailed head, moved: each class enters the regressor at its own shot count.

n_c:   1   2–3   4–7   8–15   16–31   32–63   64+
i*:    0    1     2     3      4       5       6
"""

import jax
import jax.numpy as jnp
import numpy as np

from mmn_jax.metamodelnet.regressor import Context, Regressor, Variables


def transfer_rows(
    regressor: Regressor,
    variables: Variables,
    theta: np.ndarray,
    counts: np.ndarray,
    context: Context,
    unit: float,
    keep_from: int | None = None,
) -> np.ndarray:
    """[C, d+1] the head's rows after the regressor; classes with at least keep_from examples keep theirs, none where that is None.

    theta: [C, d+1] rows of a head fitted to the long-tailed set. counts: [C]. unit: what rows were divided by in training.
    """
    with jax.default_matmul_precision("highest"):
        moved, _ = jax.jit(regressor.apply, static_argnums=4)(variables, jnp.asarray(theta) / unit, jnp.asarray(counts), context, False)
    kept = np.zeros(len(counts), bool) if keep_from is None else counts >= keep_from
    return np.where(kept[:, None], theta, np.asarray(moved) * unit)
