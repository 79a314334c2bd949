"""TODO"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

HIGHEST = lax.Precision.HIGHEST  # the optimum must not depend on bf16 or TF32


Array = jax.Array | np.ndarray


def mm(a: Array, b: Array) -> jax.Array:
    """a @ b at full float32 precision on every device, of matrices. A product with a vector is written as a sum: in JAX 0.11, XLA cannot
    compile all of them for a GPU where they are fused with their neighbours."""
    return jnp.matmul(a, b, precision=HIGHEST)


def row_products(a: jax.Array, b: jax.Array) -> jax.Array:
    """[n] the dot product of each row of a with that of b, both [n, C]."""

    def by_einsum(a, b):  # twelve times as fast as a sum for one large head on a CPU
        return jnp.einsum("nc,nc->n", a, b, precision=HIGHEST)

    return lax.platform_dependent(a, b, cpu=by_einsum, default=lambda a, b: (a * b).sum(1))


def solve_by_cholesky(a: jax.Array, b: jax.Array) -> jax.Array:
    """L⁻¹ b, where a = L Lᵀ [n, n], b [n, m].

    Under vmap a CPU solves one after the other: a batch there waits for threads of XLA's pool while it holds one of them, so that as
    many programs at once as the pool has threads (of several devices, or of several threads of Python) would wait for ever.
    """

    def solve(a, b):
        return lax.linalg.triangular_solve(jnp.linalg.cholesky(a), b, left_side=True, lower=True)

    return lax.platform_dependent(a, b, cpu=jax.custom_batching.sequential_vmap(solve), default=solve)
