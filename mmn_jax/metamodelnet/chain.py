"""The paper's regressor: a residual chain (Wang et al. 2017, section 3.2).

A row fitted to k examples enters at block i = ⌊log2 k⌋ and passes all later ones,

    F_i(θ) = F_{i+1}(θ + f(θ; w_i)),   i = 0..N,   F_{N+1} = identity
    f = FC ∘ LeakyReLU ∘ BatchNorm ∘ FC ∘ LeakyReLU ∘ BatchNorm

The last FC of a block starts at zero, so an untrained chain is the identity.
"""

import functools
import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from mmn_jax.linear.algebra import AnyArray
from mmn_jax.metamodelnet.regressor import Regressor, Variables, entry_level, split_unit


class LevelNorm(nn.Module):
    """BatchNorm with separate statistics for the rows of each entry level, since rows of other shot counts have other statistics.

    Scale and shift are shared; running mean and variance are kept per level, [levels, width of the rows]. They start at zero, and `weight`
    [levels, 1] is the total weight of the batches in them, for the bias correction (as in Adam).
    """

    levels: int
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, rows: Float[Array, "C w"], level: Int[Array, " C"], active: Bool[Array, " C"], train: bool) -> Float[Array, "C w"]:
        """Normalises rows that entered at these levels; only `active` ones count in the statistics of training."""
        dim = rows.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, (self.levels, dim))
        var = self.variable("batch_stats", "var", jnp.zeros, (self.levels, dim))
        weight = self.variable("batch_stats", "weight", jnp.zeros, (self.levels, 1))
        scale = self.param("scale", nn.initializers.ones, (dim,))
        bias = self.param("bias", nn.initializers.zeros, (dim,))
        member = jax.nn.one_hot(level, self.levels)  # products with it are faster than gathers, and so are their gradients
        gathered = jnp.maximum(weight.value, 1.0 - self.momentum)
        used_mean, used_var = mean.value / gathered, jnp.where(weight.value > 0, var.value / gathered, 1.0)
        if train:
            present = member * active[:, None].astype(member.dtype)
            count = present.sum(0)[:, None]
            share = present.T / jnp.maximum(count, 1.0)
            used_mean = share @ rows
            used_var = share @ (rows - member @ used_mean) ** 2
            if not self.is_initializing():
                keep = jnp.where(count > 0, self.momentum, 1.0)
                mean.value = keep * mean.value + (1.0 - keep) * used_mean
                var.value = keep * var.value + (1.0 - keep) * used_var
                weight.value = keep * weight.value + (1.0 - keep)
        spread = jax.lax.rsqrt(used_var + self.epsilon)
        return (rows - member @ used_mean) * (member @ spread) * scale + bias


class Block(nn.Module):
    """The residual f(θ; w_i) of one block.

    width: of the hidden layer. levels: number of entry levels. dtype: of its products.
    """

    width: int
    levels: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, rows: Float[Array, "C p"], level: Int[Array, " C"], active: Bool[Array, " C"], train: bool) -> Float[Array, "C p"]:
        """Computes the residual of rows that entered at these levels; only `active` ones count in the statistics of training."""
        hidden = LevelNorm(self.levels, name="norm_in")(rows, level, active, train)
        hidden = nn.Dense(self.width, name="hidden", dtype=self.dtype)(nn.leaky_relu(hidden, 0.01)).astype(rows.dtype)
        hidden = LevelNorm(self.levels, name="norm_hidden")(hidden, level, active, train)
        out = nn.Dense(rows.shape[-1], kernel_init=nn.initializers.zeros, name="out", dtype=self.dtype)
        return out(nn.leaky_relu(hidden, 0.01)).astype(rows.dtype)


class Chain(nn.Module):
    """Blocks `first` to N; a row passes the blocks from its own entry level on."""

    ladder: tuple[int, ...]
    width: int
    first: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, theta: Float[Array, "C p"], shots: Int[Array, " C"], train: bool) -> Float[Array, "C p"]:
        """Moves rows of classes with these numbers of examples."""
        level = entry_level(shots, self.ladder)
        for i in range(self.first, len(self.ladder)):
            active = (level <= i) & (shots > 0)
            block = Block(self.width, len(self.ladder), self.dtype, name=f"block_{i}")
            if self.is_initializing():
                residual = block(theta, level, active, train)
            else:  # at a late level, no row passes the first blocks
                passed, skipped = (lambda block, *given: block(*given, train)), (lambda block, rows, *_: jnp.zeros_like(rows))
                residual = nn.cond(active.any(), passed, skipped, block, theta, level, active)
            ratio = jnp.linalg.norm(residual, axis=1) / jnp.linalg.norm(theta, axis=1)
            self.sow("intermediates", f"movement_{i}", jnp.where(active, ratio, 0.0).sum() / active.sum().astype(ratio.dtype))
            theta = theta + jnp.where(active[:, None], residual, 0.0)
        return theta


@functools.cache  # so that programs compiled for it are shared
def residual_chain(ladder: tuple[int, ...], width: int, dtype: DTypeLike = jnp.float32) -> Regressor:
    """Returns the paper's chain.

    Args:
      ladder: the shot counts k of the banks; there is a block for each.
      width: of hidden layers (the paper: d).
      dtype: of products, bfloat16 for mixed precision; parameters, statistics and rows stay in float32.

    Source: Wang et al. 2017, section 3.2.
    """

    def init(key, spec):
        rows = jnp.zeros((2, spec.dim))
        return Chain(ladder, width, spec.first, dtype).init(key, rows, jnp.full(2, ladder[spec.first]), False)

    def apply(variables, theta, shots, context, train):
        chain = Chain(ladder, width, len(ladder) - len(variables["params"]), dtype)  # one entry for each block, from the last levels
        if not train:
            return chain.apply(variables, theta, shots, False), variables
        moved, state = chain.apply(variables, theta, shots, True, mutable="batch_stats")
        return moved, {**variables, **state}

    return Regressor(init, apply)


@partial(jax.jit, static_argnums=0)
def _sown(chain: Chain, variables: Variables, theta: Float[Array, "C p"], shots: Int[AnyArray, " C"]) -> Any:
    return chain.apply(variables, theta, shots, False, mutable="intermediates")[1]


def block_movement(
    ladder: tuple[int, ...], width: int, variables: Variables, theta: Float[AnyArray, "C p"], shots: Int[AnyArray, " C"]
) -> list[float | None]:
    """Computes how far each block of a trained chain moves rows, as the mean ‖f(θ; w_i)‖ / ‖θ‖ of the rows that pass it.

    By the identity regularisation (Wang et al. 2017, section 3.2) it should fall towards the last block.

    Args:
      ladder: of the chain, as is `width`.
      variables: of the chain, with their 'unit'.
      theta: rows to move.
      shots: number of examples of their classes.

    Returns:
      One number for each block; None where no row passes it.
    """
    inner, unit = split_unit(variables)
    sown = _sown(Chain(ladder, width, 0), inner, jnp.asarray(theta) / unit, shots)
    means = [float(sown["intermediates"][f"movement_{i}"][0]) for i in range(len(ladder))]
    return [None if math.isnan(mean) else mean for mean in means]
