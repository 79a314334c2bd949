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

from mmn_jax.heads import BATCH, BFGS_BATCH, HeadInfo, HeadProblem, fit_head, fit_one, pad_examples
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


class Pool(NamedTuple):
    """What subsets are drawn from: examples of the class set sorted by label, padded with label C; class c begins at start[c]."""

    x: jax.Array
    y: jax.Array
    start: jax.Array
    classes: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Examples, padding included, dimensions and classes."""
        return (*self.x.shape, len(self.start))


def bank_pool(train: Examples, counts: np.ndarray, shots: int) -> Pool:
    """The Pool of H_2k, on the device."""
    classes = shot_classes(counts, shots)
    pool = class_pool(train, classes)
    weight, no_offset = np.ones(len(pool.y), np.float32), np.zeros(len(classes), np.float32)
    padded = pad_examples(HeadProblem(pool.x, pool.y, weight, no_offset, 0.0))
    labels = jnp.where(padded.weight > 0, padded.y, len(classes))
    return Pool(padded.x, labels, jnp.asarray(np.cumsum(counts[classes]) - counts[classes]), classes)


def chunk_size(pool: Pool, plan: BankPlan) -> int:
    """How many heads the plan's memory holds at once."""
    examples, dim, classes = pool.shape
    return int(np.clip(plan.memory // head_bytes(plan.shots * classes, dim, classes, examples), 1, plan.subsets))


def fit_chunk(key: jax.Array, subsets: jax.Array, pool: Pool, plan: BankPlan) -> tuple[jax.Array, HeadInfo]:
    """Rows [s, C, d+1] and infos of the heads with these indices [s]; subset i uses fold_in(key, i)."""
    ridge = jnp.float32(plan.ridge / (plan.shots * len(pool.start)))
    return _fit_chunk(key, subsets, pool.x, pool.y, pool.start, plan.shots, ridge, plan.tol)


@partial(jax.jit, static_argnames="shots")
def _fit_chunk(key, subsets, x, y, start, shots, l2, tol):
    labels = jnp.repeat(jnp.arange(len(start)), shots)

    def one(s):
        index = draw_subset(jax.random.fold_in(key, s), y, start, shots).ravel()
        problem = HeadProblem(x[index], labels, jnp.ones(len(index)), jnp.zeros(len(start)), l2)
        return fit_head(problem, jnp.zeros((len(start), x.shape[1] + 1)), tol, solver=BFGS_BATCH)

    return jax.vmap(one, axis_name=BATCH)(subsets)


def _fit_target(pool, plan):
    """θ*: the head of the whole pool."""
    held = (pool.y < len(pool.start)).astype(jnp.float32)
    labels = jnp.minimum(pool.y, len(pool.start) - 1)
    problem = HeadProblem(pool.x, labels, held, jnp.zeros(len(pool.start)), jnp.float32(plan.ridge) / held.sum())
    return fit_one(problem, jnp.zeros((len(pool.start), pool.x.shape[1] + 1)), plan.target_tol)


def fit_bank(
    key: jax.Array, train: Examples, counts: np.ndarray, plan: BankPlan, track: Callable[[Iterable], Iterable] = lambda chunks: chunks
) -> tuple[Bank, BankInfo]:
    """The bank of one k.

    Args:
      key: the stream of this k; subset s uses fold_in(key, s).
      train: normalised examples. counts: [C] of them by class.
      track: wraps the iterable of chunks, for a progress bar.
    """
    pool = bank_pool(train, counts, plan.shots)
    chunk = chunk_size(pool, plan)
    rows, infos = [], []
    for first in track(range(0, plan.subsets, chunk)):
        index = jnp.minimum(jnp.arange(first, first + chunk), plan.subsets - 1)  # the last chunk is filled up, then cut
        theta, info = jax.device_get(fit_chunk(key, index, pool, plan))
        keep = min(chunk, plan.subsets - first)
        rows.append(theta[:keep])
        infos.append(jax.tree.map(lambda field, keep=keep: field[:keep], info))
    target, target_info = jax.device_get(_fit_target(pool, plan))
    info = BankInfo(jax.tree.map(lambda *parts: np.concatenate(parts), *infos), target_info)
    return Bank(plan.shots, pool.classes, np.concatenate(rows), target), info
