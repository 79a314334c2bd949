"""The losses of a regressor (Wang et al. 2017, equation 2): the distance of moved rows to θ*, and their cross-entropy on examples."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mmn_jax.linear.algebra import AnyArray


def task_loss(theta: Float[AnyArray, "C p"], x: Float[AnyArray, " d"], y: Int[AnyArray, ""]) -> Float[Array, ""]:
    """Computes the cross-entropy of one example under the classifier of rows theta."""
    return optax.softmax_cross_entropy_with_integer_labels(theta[:, :-1] @ x + theta[:, -1], y)


def row_loss(theta: Float[AnyArray, " p"], target: Float[AnyArray, " p"]) -> Float[Array, ""]:
    """Computes the squared distance of one row to its target."""
    return jnp.sum((theta - target) ** 2)


def mean_task_loss(theta: Float[AnyArray, "C p"], x: Float[AnyArray, "n d"], y: Int[AnyArray, " n"]) -> Float[Array, ""]:
    """Computes the mean of `task_loss` over examples."""
    return jax.vmap(task_loss, (None, 0, 0))(theta, x, y).mean()


def relative_row_loss(theta: Float[AnyArray, "C p"], target: Float[AnyArray, "C p"]) -> Float[Array, ""]:
    """Computes the mean `row_loss` of rows in units of the targets' mean squared norm."""
    return jax.vmap(row_loss)(theta, target).mean() / jnp.sum(target**2, 1).mean()
