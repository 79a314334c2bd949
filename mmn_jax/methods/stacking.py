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

from mmn_jax.linear.problem import padded

LEFT = 1e-6  # nats left to gain at which it is solved; float32 tells little more
UNSOLVED = 1e-5  # nats left to gain that are worth a warning
CHUNK_FLOATS = 2**24  # of one array that holds what every head says of a chunk of examples


class Mixture(NamedTuple):
    """share: [H, 1+Q] s, each head's weight and how it changes with every trait. bias: [Q+1] t."""

    share: np.ndarray
    bias: np.ndarray


class HeldOut(NamedTuple):
    """What heads fitted to one training set say of n examples that it didn't have: logits [H, n, C], the traits [Q, C] of that set's
    classes, and the examples' labels [n]."""

    logits: np.ndarray
    traits: np.ndarray
    y: np.ndarray


def _basis(traits):
    """[Q+2, C] what weights and biases are made of: 1, φ_c and φ_c1²."""
    return np.concatenate([np.ones_like(traits[:1]), traits, traits[:1] ** 2])


def class_weights(mixture: Mixture, traits: np.ndarray) -> np.ndarray:
    """[H, C] how much each head counts for each class with these traits [Q, C]."""
    return mixture.share @ _basis(traits)[:-1]


def mix(mixture: Mixture, theta: np.ndarray, traits: np.ndarray) -> np.ndarray:
    """[C, d+1] mixed rows of heads theta [H, C, d+1] whose classes have these traits [Q, C]."""
    rows = np.einsum("hc,hcd->cd", class_weights(mixture, traits), theta)
    rows[:, -1] += mixture.bias @ _basis(traits)[1:]
    return rows.astype(np.float32)


@jax.jit
def _derivatives(numbers, heard, basis, y, weight):
    """The cross-entropy of the scores u_jc = Σ_hk numbers_hk basis_kc heard_cjh, its gradient [H+1, K] and its Hessian, weighted sums
    over a chunk of examples. Scores are linear in the numbers: with p_j = softmax(u_j) and E the mean over classes under p_j, the
    Hessian is Σ_j ω_j (E[t tᵀ] − E[t] E[t]ᵀ), t_hk = basis_kc heard_cjh."""
    with jax.default_matmul_precision("highest"):
        log_probs = jax.nn.log_softmax((heard * (numbers @ basis).T[:, None]).sum(2), axis=0)
        own = jax.nn.one_hot(y, len(heard), axis=0, dtype=log_probs.dtype)
        probs = jnp.exp(log_probs)
        value = -(own * log_probs * weight).sum()
        slope = (basis @ (heard * ((probs - own) * weight)[..., None]).sum(1)).T
        told = heard * probs[..., None]
        mean = jnp.einsum("cnh,kc->nhk", told, basis)
        gram = jnp.einsum("cnh,cng->chg", told * weight[:, None], heard)
        hessian = jnp.einsum("chg,kc,lc->hkgl", gram, basis, basis) - jnp.einsum("nhk,n,ngl->hkgl", mean, weight, mean)
        return value, slope, hessian


def _chunks(each, weight, size):
    """The examples in chunks of one size, the last filled up with examples of weight 0: heard [C, size, H+1], what the heads say and,
    for the bias, 1; y and weight [size]."""
    for first in range(0, len(each.y), size):
        chunk = slice(first, first + size)
        spare = [(0, max(0, first + size - len(each.y)))]
        said = np.moveaxis(np.float32(each.logits[:, chunk]), 0, 2)
        heard = np.pad(said.swapaxes(0, 1), [(0, 0), *spare, (0, 1)], constant_values=1)
        yield heard, np.pad(each.y[chunk], spare), np.pad(weight[chunk], spare)


def _on_devices(held):
    """What `_derivatives` takes beside the numbers, of every chunk of every set; each class counts the same."""
    classes, heads = held[0].logits.shape[2], len(held[0].logits)
    counts = np.bincount(np.concatenate([each.y for each in held]), minlength=classes)
    size = min(padded(max(len(each.y) for each in held)), max(1, CHUNK_FLOATS // (classes * (heads + 1))))
    for each in held:
        basis = jax.device_put(np.float32(_basis(each.traits)))
        weight = np.float32(1 / counts[each.y] / (counts > 0).sum())
        for heard, y, judged in map(jax.device_put, _chunks(each, weight, size)):
            yield heard, basis, y, judged


def _objective(held, kappa, centre, used):
    """at(point) → the objective at the bytes of the numbers that are used, its gradient and its Hessian, in float64."""
    work, place = list(_on_devices(held)), np.flatnonzero(used)

    @functools.lru_cache(maxsize=2)  # loss and Hessian are asked for apart, and again after a step that was too long
    def at(point):
        numbers = np.frombuffer(point)
        whole = np.float32(_spread(numbers, used))
        sums = [_derivatives(whole, *chunk) for chunk in work]
        value, slope, hessian = (np.sum([np.asarray(each, np.float64) for each in one], axis=0) for one in zip(*sums, strict=True))
        hessian = hessian.reshape(used.size, -1)[np.ix_(place, place)] + kappa * np.eye(len(place))
        away = numbers - centre
        return value + 0.5 * kappa * away @ away, slope[used] + kappa * away, hessian

    return at


def _spread(numbers, used):
    """The numbers at the places that are used, 0 elsewhere."""
    whole = np.zeros(used.shape)
    whole[used] = numbers
    return whole


def fit_mixture(held: Sequence[HeldOut], kappa: float) -> Mixture:
    """The weights that the held-out examples of all sets choose, each class counting the same; without any, 1/H each. Warns where
    more than UNSOLVED is left to gain."""
    heads, traits = len(held[0].logits), len(held[0].traits)
    used = np.ones((heads + 1, traits + 2), bool)
    used[:-1, -1] = used[-1, 0] = False  # heads are weighed by 1 and φ; φ and φ_1² make the bias
    equal = np.zeros(used.shape)
    equal[:-1, 0] = 1 / heads
    start = equal[used]
    if not any(len(each.y) for each in held):
        return _mixture(start, used)
    at = _objective(held, kappa, start, used)

    def left(point):
        _, slope, hessian = at(point.tobytes())
        return 0.5 * slope @ np.linalg.solve(hessian, slope)  # what a step of Newton's would gain

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
        warnings.warn(f"mmn: the weights of its members are not solved, {left(solved.x):.0e} nats are left to gain", stacklevel=2)
    return _mixture(solved.x, used)


def _mixture(numbers, used):
    whole = _spread(numbers, used)
    return Mixture(whole[:-1, :-1], whole[-1, 1:])
