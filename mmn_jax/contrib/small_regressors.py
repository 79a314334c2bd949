"""Small regressors (`metamodelnet/regressor.py`): a few numbers for each level, and the identity before training.

A level is the entry level of a class on the ladder (1, 2, 4, .., 64), so that every regressor can move a row less the more examples it was
fitted to. Whitened coordinates are those in which the within-class covariance is the identity (`linear/class_model.py`). A recipe uses one
of these regressors as `config.meta.regressor`, a function of the ladder: `def mine(ladder): return small_regressors.diagonal()`. Those that
need class means can't be used there.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmn_jax.errors import BadInput
from mmn_jax.linear.algebra import with_column
from mmn_jax.linear.class_model import bayesian_rows
from mmn_jax.metamodelnet.regressor import Context, Regressor, entry_level

LEVELS = (1, 2, 4, 8, 16, 32, 64)


def _from_zeros(shapes: Callable[[int], dict[str, tuple[int, ...]]], move: Callable[..., Array]) -> Regressor:
    """Makes a regressor without state whose parameters start at 0.

    Args:
      shapes: returns the shapes of the parameters by name, from the length of a row.
      move: returns the moved rows, from (params, theta, level, shots, context).
    """

    def init(key, spec):
        return {"params": {name: jnp.zeros(shape) for name, shape in shapes(spec.dim).items()}}

    def apply(variables, theta, shots, context, train):
        return move(variables["params"], theta, entry_level(shots, LEVELS), shots, context), variables

    return Regressor(init, apply)


def scale_and_bias() -> Regressor:
    """Scales rows and shifts biases, θ̂ = (1 + s) θ + [0, β]: two numbers for each level."""

    def move(params, theta, level, shots, context):
        return (theta * (1.0 + params["scale"][level, None])).at[:, -1].add(params["bias"][level])

    return _from_zeros(lambda dim: {"scale": (len(LEVELS),), "bias": (len(LEVELS),)}, move)


def diagonal() -> Regressor:
    """Multiplies whitened weights by 1 + D and shifts biases: d + 1 numbers for each level. The Wiener filter of rows has this form."""

    def move(params, theta, level, shots, context):
        weights = theta[:, :-1] @ context.model.inverse.T
        moved = (weights * (1.0 + params["factor"][level])) @ context.model.basis.T
        return with_column(moved, theta[:, -1] + params["bias"][level])

    return _from_zeros(lambda dim: {"factor": (len(LEVELS), dim - 1), "bias": (len(LEVELS),)}, move)


def _scale(theta: Float[Array, "C p"], shots: Int[Array, " C"]) -> Float[Array, ""]:
    """Returns the root mean square norm of the rows' weights, of those with examples."""
    return jnp.sqrt((theta[:, :-1] ** 2).sum(1).mean(where=shots > 0))


def _rows_of_means(context: Context, shots: Int[Array, " C"]) -> Float[Array, "C p"]:
    """Returns the Bayesian rows of the classes."""
    if context.model is None or context.means is None:
        raise BadInput("regressor: needs the means of classes, which banks of k-shot heads don't keep; train it on mixed-shot episodes")
    return bayesian_rows(context.model, context.means, shots)


def bayesian_mix() -> Regressor:
    """Mixes rows with the Bayesian rows r at the scale of θ, θ̂ = (1 − α) θ + α r + [0, β]: two numbers for each level.

    Raises:
      BadInput: in `apply`, if the context has no class means (on banks of k-shot heads).
    """

    def move(params, theta, level, shots, context):
        rows = _rows_of_means(context, shots)
        rows = rows * (_scale(theta, shots) / _scale(rows, shots))
        share = params["share"][level, None]
        return ((1.0 - share) * theta + share * rows).at[:, -1].add(params["bias"][level])

    return _from_zeros(lambda dim: {"share": (len(LEVELS),), "bias": (len(LEVELS),)}, move)


def _similarity(rows: Float[Array, "C p"], head: Int[Array, " C"]) -> tuple[Float[Array, "C C"], Bool[Array, "C C"]]:
    """Returns the cosines of Bayesian rows, and a mask of those to use: of each row with the other rows of its own head."""
    unit = rows[:, :-1] / jnp.linalg.norm(rows[:, :-1], axis=1, keepdims=True)
    return unit @ unit.T, (head[:, None] == head) & ~jnp.eye(len(rows), dtype=bool)


def neighbour_attention(sharpness: float = 10.0) -> Regressor:
    """Moves rows towards those of similar classes, θ̂_c = θ_c + γ (Σ_j a_cj θ_j − θ_c): one number for each level, and two more.

    The attention a over the other classes depends on the cosines of Bayesian rows and on counts.

    Args:
      sharpness: factor of the cosines before training.

    Raises:
      BadInput: in `apply`, if the context has no class means (on banks of k-shot heads).
    """

    def move(params, theta, level, shots, context):
        similarity, usable = _similarity(_rows_of_means(context, shots), context.head)
        trust = params["trust"] * jnp.log(shots.astype(theta.dtype))
        attention = jax.nn.softmax(sharpness * jnp.exp(params["sharpness"]) * similarity + trust, axis=1, where=usable)
        return theta + params["pull"][level, None] * (attention @ theta - theta)

    return _from_zeros(lambda dim: {"pull": (len(LEVELS),), "sharpness": (), "trust": ()}, move)


def low_rank(rank: int = 8) -> Regressor:
    """Adds a linear map of low rank, θ̂ = θ + g (θ U) V: U [p, rank] and V [rank, p] are shared by all levels, which have a gate g each."""

    def init(key, spec):
        inward = jax.random.normal(key, (spec.dim, rank)) / jnp.sqrt(jnp.float32(spec.dim))
        return {"params": {"inward": inward, "outward": jnp.zeros((rank, spec.dim)), "gate": jnp.ones(len(LEVELS))}}

    def apply(variables, theta, shots, context, train):
        params = variables["params"]
        moved = theta @ params["inward"] @ params["outward"]
        return theta + params["gate"][entry_level(shots, LEVELS), None] * moved, variables

    return Regressor(init, apply)


def equivariant() -> Regressor:
    """Adds a polynomial in the Gram matrix G of a head's rows, θ̂ = θ + p₁ G θ + p₂ G² θ: two numbers for each level.

    It commutes with every rotation of the features and every permutation of the classes.
    """

    def move(params, theta, level, shots, context):
        same = (context.head[:, None] == context.head).astype(theta.dtype)
        gram = same * (theta @ theta.T) / (_scale(theta, shots) ** 2 * same.sum(1))
        once = gram @ theta
        return theta + params["once"][level, None] * once + params["twice"][level, None] * (gram @ once)

    return _from_zeros(lambda dim: {"once": (len(LEVELS),), "twice": (len(LEVELS),)}, move)
