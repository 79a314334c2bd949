"""Small regressors (`metamodelnet/regressor.py`): a handful of numbers for each shot level, the identity before training.

A level is an entry rung of the ladder (1, 2, 4, .., 64), so every map can move a row less the more examples it saw. A Context's
whitened coordinates are those in which the within-class covariance is the identity (`linear/class_model.py`). A recipe uses one of them as
`config.meta.regressor`, a function of the ladder: `def mine(ladder): return small_regressors.diagonal()`. Regressors that need class
means can't be used there.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmn_jax.errors import BadInput
from mmn_jax.linear.class_model import bayesian_rows
from mmn_jax.metamodelnet.regressor import Regressor, entry_level

LEVELS = (1, 2, 4, 8, 16, 32, 64)


def _from_zeros(shapes: Callable, move: Callable) -> Regressor:
    """A regressor without state whose parameters start at 0: shapes(dim) names their shapes, move(params, theta, level, shots, context)
    gives the moved rows."""

    def init(key, spec):
        return {"params": {name: jnp.zeros(shape) for name, shape in shapes(spec.dim).items()}}

    def apply(variables, theta, shots, context, train):
        return move(variables["params"], theta, entry_level(shots, LEVELS), shots, context), variables

    return Regressor(init, apply)


def scale_and_bias() -> Regressor:
    """θ̂ = (1 + s) θ, b̂ = b̂ + β: two numbers a level."""

    def move(params, theta, level, shots, context):
        return (theta * (1.0 + params["scale"][level, None])).at[:, -1].add(params["bias"][level])

    return _from_zeros(lambda dim: {"scale": (len(LEVELS),), "bias": (len(LEVELS),)}, move)


def diagonal() -> Regressor:
    """Whitened weights multiplied by 1 + D, d numbers a level (the Wiener filter of rows has this form), and a bias."""

    def move(params, theta, level, shots, context):
        weights = theta[:, :-1] @ context.model.inverse.T
        moved = (weights * (1.0 + params["factor"][level])) @ context.model.basis.T
        return jnp.concatenate([moved, (theta[:, -1] + params["bias"][level])[:, None]], 1)

    return _from_zeros(lambda dim: {"factor": (len(LEVELS), dim - 1), "bias": (len(LEVELS),)}, move)


def _scale(theta):
    return jnp.sqrt((theta[:, :-1] ** 2).sum(1).mean())


def _rows_of_means(context, shots):
    if context.means is None:
        raise BadInput("this map looks at the means of classes, which banks of k-shot heads don't keep; train it on mixed-shot episodes")
    return bayesian_rows(context.model, context.means, shots)


def bayesian_mix() -> Regressor:
    """θ̂ = (1 − α) θ + α r, r the Bayesian row at the scale of θ, one α a level, and a bias.

    Raises:
      BadInput: in `apply`, where the context has no class means (on banks of k-shot heads).
    """

    def move(params, theta, level, shots, context):
        rows = _rows_of_means(context, shots)
        rows = rows * (_scale(theta) / _scale(rows))
        share = params["share"][level, None]
        return ((1.0 - share) * theta + share * rows).at[:, -1].add(params["bias"][level])

    return _from_zeros(lambda dim: {"share": (len(LEVELS),), "bias": (len(LEVELS),)}, move)


def _similarity(rows, head):
    """[C, C] cosines of Bayesian rows, and which of them count: a row looks at the other rows of its own head."""
    unit = rows[:, :-1] / jnp.linalg.norm(rows[:, :-1], axis=1, keepdims=True)
    return unit @ unit.T, (head[:, None] == head) & ~jnp.eye(len(rows), dtype=bool)


def neighbour_attention(sharpness: float = 10.0) -> Regressor:
    """θ̂_c = θ_c + γ (Σ_j a_cj θ_j − θ_c), attention a over the other classes by the cosine of Bayesian rows and by their counts.

    Raises:
      BadInput: in `apply`, where the context has no class means (on banks of k-shot heads).
    """

    def move(params, theta, level, shots, context):
        similarity, usable = _similarity(_rows_of_means(context, shots), context.head)
        trust = params["trust"] * jnp.log(shots.astype(theta.dtype))
        attention = jax.nn.softmax(sharpness * jnp.exp(params["sharpness"]) * similarity + trust, axis=1, where=usable)
        return theta + params["pull"][level, None] * (attention @ theta - theta)

    return _from_zeros(lambda dim: {"pull": (len(LEVELS),), "sharpness": (), "trust": ()}, move)


def low_rank(rank: int = 8) -> Regressor:
    """θ̂ = θ + g (θ U) V, U [d+1, rank] and V [rank, d+1] shared by all levels, a gate g for each."""

    def init(key, spec):
        inward = jax.random.normal(key, (spec.dim, rank)) / jnp.sqrt(jnp.float32(spec.dim))
        return {"params": {"inward": inward, "outward": jnp.zeros((rank, spec.dim)), "gate": jnp.ones(len(LEVELS))}}

    def apply(variables, theta, shots, context, train):
        params = variables["params"]
        moved = theta @ params["inward"] @ params["outward"]
        return theta + params["gate"][entry_level(shots, LEVELS), None] * moved, variables

    return Regressor(init, apply)


def equivariant() -> Regressor:
    """θ̂ = θ + p₁ G θ + p₂ G² θ with the Gram matrix G of a head's rows: it commutes with every rotation of the features and
    every permutation of the classes; two numbers a level."""

    def move(params, theta, level, shots, context):
        same = (context.head[:, None] == context.head).astype(theta.dtype)
        gram = same * (theta @ theta.T) / (_scale(theta) ** 2 * same.sum(1))
        once = gram @ theta
        return theta + params["once"][level, None] * once + params["twice"][level, None] * (gram @ once)

    return _from_zeros(lambda dim: {"once": (len(LEVELS),), "twice": (len(LEVELS),)}, move)
