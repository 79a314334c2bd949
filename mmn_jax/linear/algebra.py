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

    It is for matrices only. A product with a vector is written as a sum: in JAX 0.11, XLA fails to compile some of those for a GPU once
    it has fused them with their neighbours.
    """
    return jnp.matmul(a, b, precision=HIGHEST)


def row_products(a: Float[Array, "n C"], b: Float[Array, "n C"]) -> Float[Array, " n"]:
    """Returns the dot product of each row of a with the same row of b."""

    def by_einsum(a, b):  # twelve times as fast as a sum for one large head on a CPU
        return jnp.einsum("nc,nc->n", a, b, precision=HIGHEST)

    return lax.platform_dependent(a, b, cpu=by_einsum, default=lambda a, b: (a * b).sum(1))


def solve_by_cholesky(a: Float[AnyArray, "n n"], b: Float[AnyArray, "n m"]) -> Float[Array, "n m"]:
    """Returns L⁻¹ b, where a = L Lᵀ.

    Under vmap on a CPU it solves one problem after the other: a batched solve there occupies a thread of XLA's pool while it waits for
    others, so that as many programs at once as the pool has threads (on several devices, or from several Python threads) would deadlock.
    """

    def solve(a, b):
        return lax.linalg.triangular_solve(jnp.linalg.cholesky(a), b, left_side=True, lower=True)

    return lax.platform_dependent(a, b, cpu=jax.custom_batching.sequential_vmap(solve), default=solve)
