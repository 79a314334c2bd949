"""Banks of k-shot heads: S random subsets with exactly k examples a class, one |H_2k|-way head each.

    θ_k[s] = fit_head(k examples of every c ∈ H_2k),   θ*_k = fit_head(all examples of H_2k)

H_t are the classes with at least t examples, k runs over the ladder 1, 2, 4, .., 2^N. All heads
are regularised alike per example (ℓ · n is one constant ρ), so that a row's trade-off between
its examples and the ridge doesn't depend on how many other examples the head saw.
A draw depends on (seed, k, s) alone, whatever the chunking.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmn_jax.heads import HeadInfo, HeadProblem, fit_head, fit_one, pad_examples
from mmn_jax.types import Bank, Examples


def shot_ladder(counts: np.ndarray, min_classes: int, top: int = 6) -> tuple[int, ...]:
    """(1, 2, .., 2^N): N is the largest i ≤ top for which min_classes classes have 2^{i+1} examples; () if there is none."""
    rungs = [2**i for i in range(top + 1)]
    return tuple(k for k in rungs if len(shot_classes(counts, k)) >= min_classes)


def shot_classes(counts: np.ndarray, shots: int) -> np.ndarray:
    """H_2k: the classes with at least 2k examples."""
    return np.flatnonzero(counts >= 2 * shots)


def class_pool(train: Examples, classes: np.ndarray) -> Examples:
    """The examples of these classes, relabelled 0.. in the order of `classes`, sorted by label."""
    position = np.full(int(train.y.max()) + 1, -1)
    position[classes] = np.arange(len(classes))
    labels = position[train.y]
    chosen = np.argsort(labels, kind="stable")[(labels < 0).sum() :]
    return Examples(train.x[chosen], labels[chosen].astype(np.int32))


def draw_subset(key: jax.Array, y: jax.Array, start: jax.Array, shots: int) -> jax.Array:
    """[C, k] indices of k distinct random examples of every class; y is sorted, class c begins at start[c]."""
    _, _, order = jax.lax.sort((y, jax.random.uniform(key, y.shape), jnp.arange(len(y))), num_keys=2)
    return order[start[:, None] + jnp.arange(shots)]


def _fit_subset(x, y, start, shots, l2, tol, key):
    index = draw_subset(key, y, start, shots).ravel()
    labels = jnp.repeat(jnp.arange(len(start)), shots)
    problem = HeadProblem(x[index], labels, jnp.ones(len(index)), jnp.zeros(len(start)), l2)
    return fit_head(problem, jnp.zeros((len(start), x.shape[1] + 1)), tol, blocks=False)


@partial(jax.jit, static_argnames="shots")
def _fit_chunk(key, subsets, x, y, start, shots, l2, tol):
    def one(s):
        return _fit_subset(x, y, start, shots, l2, tol, jax.random.fold_in(key, s))

    return jax.vmap(one)(subsets)


def head_bytes(examples: int, dim: int, classes: int, pool: int) -> int:
    """A forecast of the working memory of one head: its draw from the pool, features, their curvature, and the arrays of logits."""
    rank = min(examples, dim) + 1
    solve = 2 * examples * dim + 2 * examples * rank + 10 * examples * classes + 10 * classes * rank + 3 * rank * rank
    return 4 * (6 * pool + solve)


class BankPlan(NamedTuple):
    """What a bank is: shots k, subsets S, ridge ρ = ℓ · n for the summed loss, the gradient norms of its
    k-shot heads (tol) and of θ* (target_tol), and how many bytes the heads solved at once may take."""

    shots: int
    subsets: int
    ridge: float
    tol: float
    target_tol: float
    memory: int


class BankInfo(NamedTuple):
    """How the solves ended: of the S k-shot heads, each field [S], and of θ*."""

    heads: HeadInfo
    target: HeadInfo


def fit_bank(
    key: jax.Array, train: Examples, counts: np.ndarray, plan: BankPlan, track: Callable[[Iterable], Iterable] = lambda chunks: chunks
) -> tuple[Bank, BankInfo]:
    """The bank of one k.

    Args:
      key: the stream of this k; subset s uses fold_in(key, s).
      train: normalised examples. counts: [C] of them by class.
      track: wraps the iterable of chunks, for a progress bar.
    """
    shots, subsets = plan.shots, plan.subsets
    classes = shot_classes(counts, shots)
    pool = class_pool(train, classes)
    start = jnp.asarray(np.cumsum(counts[classes]) - counts[classes])
    n = shots * len(classes)
    weight, no_offset = np.ones(len(pool.y), np.float32), np.zeros(len(classes), np.float32)
    padded = pad_examples(HeadProblem(pool.x, pool.y, weight, no_offset, plan.ridge / len(pool.y)))
    chunk = int(np.clip(plan.memory // head_bytes(n, pool.x.shape[1], len(classes), len(padded.y)), 1, subsets))
    x, y = padded.x, jnp.where(padded.weight > 0, padded.y, len(classes))  # padding sorts last, no draw reaches it
    rows, infos = [], []
    for first in track(range(0, subsets, chunk)):
        index = jnp.minimum(jnp.arange(first, first + chunk), subsets - 1)  # the last chunk is filled up, then cut
        theta, info = _fit_chunk(key, index, x, y, start, shots, jnp.float32(plan.ridge / n), plan.tol)
        keep = min(chunk, subsets - first)
        rows.append(np.asarray(theta[:keep]))
        infos.append(jax.tree.map(lambda field, keep=keep: np.asarray(field[:keep]), info))
    target, target_info = fit_one(padded, jnp.zeros((len(classes), x.shape[1] + 1)), plan.target_tol)
    info = BankInfo(jax.tree.map(lambda *parts: np.concatenate(parts), *infos), jax.device_get(target_info))
    return Bank(shots, classes, np.concatenate(rows), np.asarray(target)), info
