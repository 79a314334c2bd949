"""Mixes the rows of several heads by weights that depend on traits of the class, learned on held-out examples.

    θ̂_c = Σ_h (s_h · [1, φ_c]) θ_c^h + [0, t · [φ_c, φ_c1²]]

    minimise over s, t:  mean_c mean_{j∈c} CE(θ̂ x_j, y_j) + (κ/2) (Σ_h ‖s_h − [1/H, 0]‖² + ‖t‖²)

φ_c are traits of class c, such as the logarithm of its count. No class has a weight of its own: a convex problem determines a few dozen
numbers (stacked generalisation, Wolpert 1992), from any classes that have held-out examples.
"""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.optimize import minimize

from mmn_jax.devices import COMPILER_OPTIONS
from mmn_jax.linear.problem import padded

LEFT = 1e-6  # nats left to gain at which the problem counts as solved; float32 resolves little more
UNSOLVED = 1e-5  # nats left to gain that are worth a warning
CHUNK_FLOATS = 2**24  # of the array of all heads' logits for a chunk of examples

Derivatives = tuple[float, Float[np.ndarray, " m"], Float[np.ndarray, "m m"]]  # a value, its gradient and its Hessian


class Mixture(NamedTuple):
    """The numbers of a mixture of H heads by Q traits.

    share: s, the weight of each head where traits are 0, and its slope in each trait. bias: t. (The axes are H, 1 + Q and Q + 1.)
    """

    share: Float[np.ndarray, "H weights"]
    bias: Float[np.ndarray, " biases"]


class HeldOut(NamedTuple):
    """Examples held out of one training set.

    logits: of the heads fitted to that set. traits: of its classes. y: labels of the examples.
    """

    logits: Float[np.ndarray, "H n C"]
    traits: Float[np.ndarray, "Q C"]
    y: Int[np.ndarray, " n"]


def _basis(traits: Float[np.ndarray, "Q C"]) -> Float[np.ndarray, "K C"]:
    """Returns the K = Q + 2 functions of the traits that weights and biases are linear in: 1, φ_c and φ_c1²."""
    return np.concatenate([np.ones_like(traits[:1]), traits, traits[:1] ** 2])


def class_weights(mixture: Mixture, traits: Float[np.ndarray, "Q C"]) -> Float[np.ndarray, "H C"]:
    """Returns the weight of each head for each class with these traits."""
    return mixture.share @ _basis(traits)[:-1]


def mix(mixture: Mixture, theta: Float[np.ndarray, "H C p"], traits: Float[np.ndarray, "Q C"]) -> Float[np.ndarray, "C p"]:
    """Returns the mixed rows of heads whose classes have these traits."""
    rows = np.einsum("hc,hcd->cd", class_weights(mixture, traits), theta)
    rows[:, -1] += mixture.bias @ _basis(traits)[1:]
    return rows.astype(np.float32)


@partial(jax.jit, compiler_options=COMPILER_OPTIONS)
def _derivatives(
    numbers: Float[Array, "G K"],
    logits: Float[Array, "C n G"],
    basis: Float[Array, "K C"],
    y: Int[Array, " n"],
    weight: Float[Array, " n"],
) -> tuple[Float[Array, ""], Float[Array, "G K"], Float[Array, "G K G K"]]:
    """Returns the cross-entropy of the scores u_jc = Σ_hk numbers_hk basis_kc logits_cjh, its gradient and its Hessian, as weighted sums
    over a chunk of examples; G = H + 1 counts the heads and the bias.

    Scores are linear in the numbers: with p_j = softmax(u_j) and E the mean over classes under p_j, the Hessian is
    Σ_j ω_j (E[t tᵀ] − E[t] E[t]ᵀ), where t_hk = basis_kc logits_cjh.
    """
    with jax.default_matmul_precision("highest"):
        log_probs = jax.nn.log_softmax((logits * (numbers @ basis).T[:, None]).sum(2), axis=0)
        own = jax.nn.one_hot(y, len(logits), axis=0, dtype=log_probs.dtype)
        probs = jnp.exp(log_probs)
        value = -(own * log_probs * weight).sum()
        slope = (basis @ (logits * ((probs - own) * weight)[..., None]).sum(1)).T
        expected = logits * probs[..., None]
        mean = jnp.einsum("cnh,kc->nhk", expected, basis)
        gram = jnp.einsum("cnh,cng->chg", expected * weight[:, None], logits)
        hessian = jnp.einsum("chg,kc,lc->hkgl", gram, basis, basis) - jnp.einsum("nhk,n,ngl->hkgl", mean, weight, mean)
        return value, slope, hessian


Chunk = tuple[Float[np.ndarray, "C n G"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]  # logits of heads and 1 for the bias, y, weight


def _chunks(each: HeldOut, weight: Float[np.ndarray, " n"], size: int) -> Iterator[Chunk]:
    """Yields the examples in chunks of one size, the last filled up with examples of weight 0."""
    for first in range(0, len(each.y), size):
        chunk = slice(first, first + size)
        spare = [(0, max(0, first + size - len(each.y)))]
        by_class = each.logits[:, chunk].astype(np.float32).transpose(2, 1, 0)
        yield np.pad(by_class, [(0, 0), *spare, (0, 1)], constant_values=1), np.pad(each.y[chunk], spare), np.pad(weight[chunk], spare)


def _on_devices(held: Sequence[HeldOut]) -> Iterator[tuple[Array, Array, Array, Array]]:
    """Yields the arguments of `_derivatives` after the numbers for every chunk of every set; each class has the same total weight."""
    classes, heads = held[0].logits.shape[2], len(held[0].logits)
    counts = np.bincount(np.concatenate([each.y for each in held]), minlength=classes)
    size = min(padded(max(len(each.y) for each in held)), max(1, CHUNK_FLOATS // (classes * (heads + 1))))
    for each in held:
        basis = jax.device_put(np.float32(_basis(each.traits)))
        weight = (1 / counts[each.y] / (counts > 0).sum()).astype(np.float32)
        for logits, y, chunk_weight in map(jax.device_put, _chunks(each, weight, size)):
            yield logits, basis, y, chunk_weight


def _objective(
    held: Sequence[HeldOut], kappa: float, centre: Float[np.ndarray, " m"], used: Bool[np.ndarray, "G K"]
) -> Callable[[bytes], Derivatives]:
    """Returns at(point): the objective, its gradient and its Hessian in float64, from the bytes of the numbers that are used."""
    work, place = list(_on_devices(held)), np.flatnonzero(used)

    @functools.lru_cache(maxsize=2)  # the minimiser asks for loss and Hessian separately, and again after a step that was too long
    def at(point):
        numbers = np.frombuffer(point)
        whole = np.float32(_spread(numbers, used))
        sums = [_derivatives(whole, *chunk) for chunk in work]
        value, slope, hessian = (np.sum([np.asarray(each, np.float64) for each in one], axis=0) for one in zip(*sums, strict=True))
        hessian = hessian.reshape(used.size, -1)[np.ix_(place, place)] + kappa * np.eye(len(place))
        away = numbers - centre
        return value + 0.5 * kappa * away @ away, slope[used] + kappa * away, hessian

    return at


def _spread(numbers: Float[np.ndarray, " m"], used: Bool[np.ndarray, "G K"]) -> Float[np.ndarray, "G K"]:
    """Returns the numbers at the places that are used, and 0 elsewhere."""
    whole = np.zeros(used.shape)
    whole[used] = numbers
    return whole


def fit_mixture(held: Sequence[HeldOut], kappa: float) -> Mixture:
    """Fits a mixture to the held-out examples of all sets, where each class has the same weight; warns where it doesn't converge.

    Args:
      held: of each training set, for the same heads and classes; without any examples, each head has the weight 1/H.
      kappa: κ, the strength of the penalty towards these equal weights.
    """
    heads, traits = len(held[0].logits), len(held[0].traits)
    used = np.ones((heads + 1, traits + 2), bool)
    used[:-1, -1] = used[-1, 0] = False  # weights are linear in 1 and φ, the bias in φ and φ_1²
    equal = np.zeros(used.shape)
    equal[:-1, 0] = 1 / heads
    start = equal[used]
    if not any(len(each.y) for each in held):
        return _mixture(start, used)
    at = _objective(held, kappa, start, used)

    def left(point):
        _, slope, hessian = at(point.tobytes())
        return 0.5 * slope @ np.linalg.solve(hessian, slope)  # the gain of a Newton step

    def halt(intermediate_result):
        if left(intermediate_result.x) < LEFT:
            raise StopIteration

    solved = minimize(
        lambda point: at(point.tobytes())[:2],
        start,
        jac=True,
        hess=lambda point: at(point.tobytes())[2],
        method="trust-exact",
        callback=halt,
        options={"gtol": 0.0, "maxiter": 50},
    )
    if left(solved.x) > UNSOLVED:
        warnings.warn(f"mmn: the weights of its members did not converge, {left(solved.x):.0e} nats are left to gain", stacklevel=2)
    return _mixture(solved.x, used)


def _mixture(numbers: Float[np.ndarray, " m"], used: Bool[np.ndarray, "G K"]) -> Mixture:
    whole = _spread(numbers, used)
    return Mixture(whole[:-1, :-1], whole[-1, 1:])
