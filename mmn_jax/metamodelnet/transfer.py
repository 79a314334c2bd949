"""Applies a trained regressor: every row of the long-tailed head enters it at its class's own count.

n_c:           1   2–3   4–7   8–15   16–31   32–63   64+
entry level:   0    1     2     3      4       5       6
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mmn_jax.devices import COMPILER_OPTIONS
from mmn_jax.linear.algebra import AnyArray
from mmn_jax.metamodelnet.regressor import Context, Regressor, Variables, split_unit


def transfer_rows(
    regressor: Regressor,
    variables: Variables,
    theta: Float[AnyArray, "C p"],
    counts: Int[np.ndarray, " C"],
    context: Context,
    keep_from: int | None = None,
) -> Float[np.ndarray, "C p"]:
    """Moves the rows of a head by a trained regressor.

    Args:
      regressor: the regressor.
      variables: its variables, from `fit_metamodelnet` or `contrib.mixed_shot.fit_regressor`. Rows are divided by their 'unit' before the
        regressor moves them, and multiplied by it after.
      theta: rows of a head fitted to the long-tailed set, p = d + 1.
      counts: training examples of each class.
      context: what the regressor may use beside the rows.
      keep_from: number of examples from which a class keeps its row; None to move all rows.

    Returns:
      The rows after transfer.
    """
    inner, unit = split_unit(variables)
    with jax.default_matmul_precision("highest"):
        apply = jax.jit(regressor.apply, static_argnums=4, compiler_options=COMPILER_OPTIONS)
        moved, _ = apply(inner, jnp.asarray(theta) / unit, jnp.asarray(counts), context, False)
    kept = np.zeros(len(counts), bool) if keep_from is None else counts >= keep_from
    return np.where(kept[:, None], theta, np.asarray(moved) * unit)
