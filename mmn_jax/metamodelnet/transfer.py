"""Transfer: every row of the long-tailed head enters the regressor at its class's own shot count.

n_c:           1   2–3   4–7   8–15   16–31   32–63   64+
entry level:   0    1     2     3      4       5       6
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mmn_jax.metamodelnet.regressor import Context, Regressor, Variables, split_unit


def transfer_rows(
    regressor: Regressor,
    variables: Variables,
    theta: Float[np.ndarray | jax.Array, "C p"],
    counts: Int[np.ndarray, " C"],
    context: Context,
    keep_from: int | None = None,
) -> Float[np.ndarray, "C p"]:
    """Moves the rows of a head by a trained regressor.

    Args:
      regressor: what `variables` belong to.
      variables: what `fit_metamodelnet` or `contrib.mixed_shot.fit_regressor` returned. Their 'unit' is what rows are divided by on
        their way in and multiplied by on their way out.
      theta: rows of a head fitted to the long-tailed set, p = d + 1.
      counts: training examples of each class.
      context: what the regressor may look at beside the rows.
      keep_from: classes with at least so many examples keep their rows; None: all rows are moved.

    Returns:
      The rows after transfer.
    """
    inner, unit = split_unit(variables)
    with jax.default_matmul_precision("highest"):
        moved, _ = jax.jit(regressor.apply, static_argnums=4)(inner, jnp.asarray(theta) / unit, jnp.asarray(counts), context, False)
    kept = np.zeros(len(counts), bool) if keep_from is None else counts >= keep_from
    return np.where(kept[:, None], theta, np.asarray(moved) * unit)
