"""How much each of several heads counts for a class: weights that depend on traits of the class, learned on held-out examples.

    θ̂_c = Σ_h (s_h · [1, φ_c]) θ_c^h + [0, t · [φ_c, φ_c1²]]

    minimise over s, t:  mean_c mean_{j∈c} CE(θ̂ x_j, y_j) + (κ/2) (Σ_h ‖s_h − [1/H, 0]‖² + ‖t‖²)

φ_c are traits of class c, such as the logarithm of its examples. No class has a weight of its own: what is learned is a
few dozen numbers, by a convex problem (stacked generalisation, Wolpert 1992), from any classes that have held-out examples.
"""

import functools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from mmn_jax.types import Examples

TOL = 1e-5  # gradient norm; what float32 still resolves where logits are of a few tens
LEFT = 1e-5  # nats that may be left to gain where float32 doesn't
CHUNK_FLOATS = 2**24  # of one array that holds every number's part in every logit of a chunk of examples


class Mixture(NamedTuple):
    """share: [H, 1+Q] s, each head's weight and how it changes with every trait. bias: [Q+1] t."""

    share: np.ndarray
    bias: np.ndarray


class Part(NamedTuple):
    """Heads fitted to one training set, theta [H, C, d+1], its classes' traits [Q, C], and examples that it didn't see."""

    theta: np.ndarray
    traits: np.ndarray
    held: Examples


def _with_one(traits):
    return np.concatenate([np.ones_like(traits[:1]), traits])


def _with_square(traits):
    return np.concatenate([traits, traits[:1] ** 2])


def class_weights(mixture: Mixture, traits: np.ndarray) -> np.ndarray:
    """[H, C] how much each head counts for each class with these traits [Q, C]."""
    return mixture.share @ _with_one(traits)


def mix(mixture: Mixture, theta: np.ndarray, traits: np.ndarray) -> np.ndarray:
    """[C, d+1] mixed rows of heads theta [H, C, d+1] whose classes have these traits [Q, C]."""
    rows = np.einsum("hc,hcd->cd", class_weights(mixture, traits), theta)
    rows[:, -1] += mixture.bias @ _with_square(traits)
    return rows.astype(np.float32)


def _loss(numbers, terms, y):
    """Cross-entropy of one example whose logits are linear in the numbers [M], terms [M, C]."""
    logits = numbers @ terms
    return jax.nn.logsumexp(logits) - logits[y]


@jax.jit
def _derivatives(numbers, theta, scales, shifts, x, y, weight):
    """The loss, its gradient [M] and its Hessian [M, M], weighted sums over a chunk of examples."""

    def one(x, y):
        logits = theta[..., :-1] @ x + theta[..., -1]
        terms = jnp.concatenate([(logits[:, None] * scales).reshape(-1, logits.shape[1]), shifts])
        return _loss(numbers, terms, y), jax.grad(_loss)(numbers, terms, y), jax.hessian(_loss)(numbers, terms, y)

    with jax.default_matmul_precision("highest"):
        return jax.tree.map(lambda each: jnp.tensordot(weight, each, 1), jax.vmap(one)(x, y))


def _chunks(part, weight, size):
    """The held-out examples in chunks of one size, the last filled up with examples of weight 0."""
    for first in range(0, len(part.held.y), size):
        chunk = (part.held.x[first : first + size], part.held.y[first : first + size], weight[first : first + size])
        spare = size - len(chunk[1])
        yield [np.pad(array, [(0, spare)] + [(0, 0)] * (array.ndim - 1)) for array in chunk]


def fit_mixture(parts: Sequence[Part], strength: float) -> Mixture:
    """The weights that the held-out examples of all parts choose, each class counting the same; without any, 1/H each. Warns where
    more than LEFT is left to gain."""
    heads, classes = parts[0].theta.shape[:2]
    traits = len(parts[0].traits)
    share = np.zeros((heads, 1 + traits))
    share[:, 0] = 1 / heads
    every = np.concatenate([part.held.y for part in parts])
    if len(every) == 0:
        return Mixture(share, np.zeros(traits + 1))
    counts = np.bincount(every, minlength=classes)
    centre = np.concatenate([share.ravel(), np.zeros(traits + 1)])
    size = min(-(-len(every) // len(parts)), max(1, CHUNK_FLOATS // (classes * len(centre))))
    work = []
    for part in parts:
        fixed = jax.device_put([np.float32(array) for array in (part.theta, _with_one(part.traits), _with_square(part.traits))])
        weight = (1 / counts[part.held.y] / (counts > 0).sum()).astype(np.float32)
        work += [(*fixed, *jax.device_put(chunk)) for chunk in _chunks(part, weight, size)]

    @functools.lru_cache(maxsize=1)  # the optimiser asks for the loss and for its Hessian at one point
    def at(point):
        numbers = np.frombuffer(point)
        sums = [_derivatives(jnp.asarray(numbers, jnp.float32), *chunk) for chunk in work]
        value, slope, hessian = (np.sum([np.asarray(each, np.float64) for each in one], axis=0) for one in zip(*sums, strict=True))
        away = numbers - centre
        return value + 0.5 * strength * away @ away, slope + strength * away, hessian + strength * np.eye(len(centre))

    solved = minimize(
        lambda p: at(p.tobytes())[:2],
        centre,
        jac=True,
        hess=lambda p: at(p.tobytes())[2],
        method="trust-exact",
        options={"gtol": TOL, "maxiter": 50},
    )
    left = 0.5 * solved.jac @ np.linalg.solve(solved.hess, solved.jac)  # a step of Newton's would still gain
    if left > LEFT:
        warnings.warn(f"mmn: the weights of its members are not solved, {left:.0e} nats are left to gain", stacklevel=2)
    return Mixture(solved.x[: heads * (1 + traits)].reshape(heads, -1), solved.x[heads * (1 + traits) :])
