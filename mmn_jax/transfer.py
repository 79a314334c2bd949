"""Rows of the long-tailed head, moved: each class enters the regressor at its own shot count.

n_c:   1   2–3   4–7   8–15   16–31   32–63   64+
i*:    0    1     2     3      4       5       6
"""

import jax.numpy as jnp
import numpy as np

from mmn_jax.regressor import Context, Regressor, Variables


def movement(theta: np.ndarray, moved: np.ndarray, rung: np.ndarray, rungs: int) -> list[float | None]:
    """Mean ‖θ̂ − θ‖ / ‖θ‖ of the rows that enter at each rung, None for a rung without rows: the chain's identity
    regularisation (Wang et al. 2017, section 3.2) says that it falls towards the last."""
    ratio = np.linalg.norm(moved - theta, axis=1) / np.linalg.norm(theta, axis=1)
    return [float(ratio[rung == i].mean()) if (rung == i).any() else None for i in range(rungs)]


def transfer_rows(
    regressor: Regressor, variables: Variables, theta: np.ndarray, counts: np.ndarray, context: Context, unit: float, keep_from: int
) -> np.ndarray:
    """[C, d+1] the head's rows after the regressor; classes with at least keep_from examples keep theirs.

    theta: [C, d+1] rows of a head fitted to the long-tailed set. counts: [C]. unit: what rows were divided by in training.
    """
    moved, _ = regressor.apply(variables, jnp.asarray(theta) / unit, jnp.asarray(counts), context, False)
    return np.where((counts >= keep_from)[:, None], theta, np.asarray(moved) * unit)
