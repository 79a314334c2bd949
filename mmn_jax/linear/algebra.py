"""Matrix products and Cholesky solves that are exact to float32 on every device, each written as the device at hand computes it best."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

HIGHEST = lax.Precision.HIGHEST  # the optimum must not depend on bf16 or TF32

AnyArray = jax.Array | np.ndarray  # for what takes either; `jaxtyping.Array` is JAX's alone
ArrayT = TypeVar("ArrayT", np.ndarray, jax.Array)  # one or the other, the same throughout a signature
FloatLike = float | np.floating | Float[AnyArray, ""]  # one number
IntLike = int | np.integer | Int[AnyArray, ""]


def mm(a: Float[AnyArray, "n k"], b: Float[AnyArray, "k m"]) -> Float[Array, "n m"]:
    """Returns a @ b at full float32 precision on every device.

    It is for matrices only. A product with a vector is written as a sum, which XLA fuses with its neighbours.
    """
    return jnp.matmul(a, b, precision=HIGHEST)


def row_products(a: Float[Array, "n C"], b: Float[Array, "n C"]) -> Float[Array, " n"]:
    """Returns the dot product of each row of a with the same row of b."""

    def by_einsum(a, b):  # twelve times as fast as a sum for one large head on a CPU
        return jnp.einsum("nc,nc->n", a, b, precision=HIGHEST)

    return lax.platform_dependent(a, b, cpu=by_einsum, default=lambda a, b: (a * b).sum(1))


def with_column(matrix: Float[ArrayT, "*batch n d"], column: Float[AnyArray, "*batch n"] | float) -> Float[ArrayT, "*batch n p"]:
    """Returns [matrix, column], p = d + 1, as numpy or JAX arrays, whichever `matrix` is.

    In JAX 0.11, XLA fails to compile some fused concatenations with a single column for a GPU.
    """
    xp, dim = matrix.__array_namespace__(), matrix.shape[-1]
    padded = xp.pad(matrix, [(0, 0)] * (matrix.ndim - 1) + [(0, 1)])
    return xp.where(xp.arange(dim + 1) == dim, xp.asarray(column, dtype=matrix.dtype)[..., None], padded)


def solve_by_cholesky(a: Float[AnyArray, "n n"], b: Float[AnyArray, "n m"]) -> Float[Array, "n m"]:
    """Returns L⁻¹ b, where a = L Lᵀ.

    Under vmap on a CPU it solves one problem after the other: a batched solve there occupies a thread of XLA's pool while it waits for
    others, so that as many programs at once as the pool has threads (on several devices, or from several Python threads) would deadlock.
    """

    def solve(a, b):
        return lax.linalg.triangular_solve(jnp.linalg.cholesky(a), b, left_side=True, lower=True)

    return lax.platform_dependent(a, b, cpu=jax.custom_batching.sequential_vmap(solve), default=solve)
