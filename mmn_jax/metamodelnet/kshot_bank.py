"""Banks of k-shot heads: S random subsets with exactly k examples of each class, and one |H_2k|-way head each.

    θ_k[s] = fit_head(k examples of every c ∈ H_2k),   θ*_k = fit_head(all examples of H_2k)

H_t are the classes with at least t examples; k runs over the ladder 1, 2, 4, .., 2^N. All heads have the same ridge per example (ℓ · n is
one constant ρ), so that a row's trade-off between its examples and the ridge doesn't depend on how many other examples the head has. A
draw depends on (seed, k, s) alone, whatever the chunks that heads are solved in.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from mmn_jax import defaults
from mmn_jax.data.longtail import class_pool
from mmn_jax.data.normalisation import warn_unless_normalised
from mmn_jax.devices import EACH, SAME, SOLVER_OPTIONS, all_devices, batch_memory, gathered, replicated
from mmn_jax.errors import BadInput
from mmn_jax.linear.algebra import HIGHEST, AnyArray, FloatLike, with_column
from mmn_jax.linear.coordinates import Coordinates, coordinates, principal_axes
from mmn_jax.linear.frame import featureframe
from mmn_jax.linear.problem import HeadProblem, padded
from mmn_jax.linear.solve import ALIGNED_NEWTON, NEWTON, HeadInfo, fit_batch, fit_one, warn_unless_converged
from mmn_jax.machine import one_thread
from mmn_jax.rng import fold
from mmn_jax.types import Bank, Normalised

EASING = (100, 10, 1)  # times the ridge: solved one after the other, a large head takes half as many Hessian products


def shot_ladder(counts: Int[np.ndarray, " C"], min_classes: int | None = None, top: int = defaults.TOP) -> tuple[int, ...]:
    """Returns the shot counts (1, 2, .., 2^N) of the banks.

    Args:
      counts: training examples of each class.
      min_classes: N is the largest i for which this many classes have 2^{i+1} examples; by default `enough_classes`.
      top: the largest N.

    Returns:
      The shot counts, none where too few classes have two examples.
    """
    enough = enough_classes(len(counts)) if min_classes is None else min_classes
    return tuple(2**i for i in range(top + 1) if len(shot_classes(counts, 2**i)) >= enough)


def enough_classes(classes: int, wanted: int = defaults.MIN_CLASSES) -> int:
    """Returns how many classes a bank needs: `wanted`, or a quarter of all classes if that is less, but at least 5."""
    return max(5, min(wanted, classes // 4))


def shot_classes(counts: Int[np.ndarray, " C"], shots: int) -> Int[np.ndarray, " H"]:
    """Returns H_2k, the classes with at least 2k examples."""
    return np.flatnonzero(counts >= 2 * shots)


def draw_subset(key: Key[Array, ""], y: Int[Array, " n"], begin: Int[Array, " C"], shots: int) -> Int[Array, "C {shots}"]:
    """Draws the indices of k distinct examples of every class; y is sorted, and class c begins at begin[c]."""
    _, _, order = jax.lax.sort((y, jax.random.uniform(key, y.shape), jnp.arange(len(y))), num_keys=2)
    return order[begin[:, None] + jnp.arange(shots)]


def head_bytes(examples: int, dim: int, classes: int, pool: int) -> int:
    """Estimates the bytes of working memory of one head: its draw from the pool, features, logits, coefficients."""
    if examples < dim:
        return 4 * (6 * pool + 2 * examples * dim + 14 * examples * classes + classes * dim + examples * examples)
    return 4 * (6 * pool + 3 * examples * dim + 4 * examples * classes + 4 * classes * (dim + 1) + classes * dim)


class BankPlan(NamedTuple):
    """The settings of one bank.

    shots: k. subsets: S. ridge: ρ = ℓ · n, for the summed loss. tol, target_tol: gradient norms of k-shot heads and of θ*. memory: bytes
    that the heads solved at once may take on a device.
    """

    shots: int
    subsets: int
    ridge: float
    tol: float
    target_tol: float
    memory: int


class Pool(NamedTuple):
    """The examples of the classes of a bank, from which subsets are drawn.

    x, y: sorted by label and padded with label H. begin: position of the first example of each class. basis, variance: where heads have at
    least as many examples as dimensions, x is in the eigenbasis of the features' covariance, with these eigenvalues; otherwise both are
    None. classes: the class set.
    """

    x: Float[Array, "n d"]
    y: Int[Array, " n"]
    begin: Int[Array, " H"]
    basis: Float[Array, "d d"] | None
    variance: Float[Array, " d"] | None
    classes: Int[np.ndarray, " H"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of examples (with padding), dimensions and classes."""
        examples, dim = self.x.shape
        return examples, dim, len(self.begin)


def bank_pool(train: Normalised, counts: Int[np.ndarray, " C"], shots: int, mesh: Mesh) -> Pool:
    """Makes the Pool of H_2k, replicated on every device; counts: training examples of each class."""
    classes = shot_classes(counts, shots)
    pool = class_pool(train, classes)
    spare = padded(len(pool.y)) - len(pool.y)
    basis, variance = principal_axes(pool.x) if shots * len(classes) >= pool.x.shape[1] else (None, None)
    x = pool.x if basis is None else pool.x @ basis
    padded_x, padded_y = np.pad(x, ((0, spare), (0, 0))), np.pad(pool.y, (0, spare), constant_values=len(classes))
    begin = (np.cumsum(counts[classes]) - counts[classes]).astype(np.int32)
    x, y, begin, basis, variance = replicated(mesh, (padded_x, padded_y, begin, basis, variance))
    return Pool(x, y, begin, basis, variance, classes)


def chunk_size(shape: tuple[int, int, int], plan: BankPlan, devices: int) -> int:
    """Returns how many heads are solved at once on all devices, within the plan's memory, drawn from a Pool of this shape."""
    examples, dim, classes = shape
    each = plan.memory // head_bytes(plan.shots * classes, dim, classes, examples)
    return devices * int(np.clip(each, 1, -(-plan.subsets // devices)))


def fit_chunk(
    key: Key[Array, ""], subsets: Int[np.ndarray, " s"], pool: Pool, plan: BankPlan, mesh: Mesh
) -> tuple[Float[Array, "s H p"], HeadInfo]:
    """Fits the heads of these subsets, sharded over the mesh; subset i is drawn by fold_in(key, i)."""
    ridge = np.float32(plan.ridge / (plan.shots * len(pool.begin)))
    return _fit_chunk(key, subsets, *pool[:-1], ridge, np.float32(plan.tol), plan.shots, mesh)


@partial(jax.jit, static_argnames=("shots", "mesh"), compiler_options=SOLVER_OPTIONS)
def _fit_chunk(
    key: Key[Array, ""],
    subsets: Int[AnyArray, " s"],
    x: Float[Array, "n d"],
    y: Int[Array, " n"],
    begin: Int[Array, " H"],
    basis: Float[Array, "d d"] | None,
    variance: Float[Array, " d"] | None,
    l2: FloatLike,
    tol: FloatLike,
    shots: int,
    mesh: Mesh,
) -> tuple[Float[Array, "s H p"], HeadInfo]:
    def heads(subsets, key, x, y, begin, basis, variance, l2, tol):
        index = jax.vmap(lambda s: draw_subset(jax.random.fold_in(key, s), y, begin, shots).ravel())(subsets)
        labels = jnp.repeat(jnp.arange(len(begin)), shots)
        problems = HeadProblem(x[index], labels, jnp.ones(len(labels)), jnp.zeros(len(begin)), l2)
        zeros, frame = jnp.zeros((len(begin), x.shape[1] + 1)), partial(featureframe, variance=variance)
        theta, info = fit_batch(problems, zeros, tol, shared=("y", "weight", "offset", "l2"), frame=frame)
        if basis is None:
            return theta, info
        return with_column(jnp.matmul(theta[..., :-1], basis.T, precision=HIGHEST), theta[..., -1]), info

    # each device goes on until its own heads are done: nothing is exchanged, and `any_in_batch` checks those alone
    shared = jax.shard_map(heads, mesh=mesh, in_specs=(EACH, *[SAME] * 8), out_specs=EACH, check_vma=False)
    return shared(subsets, key, x, y, begin, basis, variance, l2, tol)


def fit_target(pool: Pool, plan: BankPlan, start: Float[np.ndarray, "H p"] | None = None) -> tuple[Float[np.ndarray, "H p"], HeadInfo]:
    """Fits θ*, the head of the whole pool, from the rows `start` near it, or else from zeros by way of stronger ridges."""
    x, y, begin, basis = jax.device_get((pool.x, pool.y, pool.begin, pool.basis))
    real = (y < len(begin)).astype(np.float32)
    labels, no_offset = np.minimum(y, len(begin) - 1), np.zeros(len(begin), np.float32)
    place, solver = coordinates(np.ones(x.shape[1], np.float32)), NEWTON
    if basis is not None:
        place, solver = Coordinates(basis, basis.T), ALIGNED_NEWTON
    theta = np.zeros((len(begin), x.shape[1] + 1), np.float32) if start is None else place.into(start)
    ahead = np.zeros_like(theta)
    for times in EASING if start is None else (1,):
        problem = HeadProblem(x, labels, real, no_offset, np.float32(times * plan.ridge / real.sum()))
        tol = plan.target_tol if times == 1 else max(plan.tol, plan.target_tol)
        before, (theta, info) = theta, jax.device_get(fit_one(problem, theta, tol, solver=solver, ahead=ahead))
        ahead = theta - before if before.any() else ahead
    return place.out(theta), info


def fit_heads(key: Key[Array, ""], first: int, pool: Pool, plan: BankPlan, mesh: Mesh) -> tuple[Float[np.ndarray, "s H p"], HeadInfo]:
    """Fits a chunk of heads from number `first` on, as many as `chunk_size` allows, and returns them on the host; key: of this k."""
    size = chunk_size(pool.shape, plan, mesh.size)
    index = np.minimum(np.arange(first, first + size), plan.subsets - 1)  # the last chunk is filled up here, and trimmed below
    with one_thread(plan.shots * len(pool.begin)):
        solved = gathered(fit_chunk(key, index, pool, plan, mesh))
    return jax.tree.map(lambda field: field[: plan.subsets - first], solved)


def fit_bank(
    key: Key[Array, ""],
    x: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    shots: int,
    *,
    subsets: int | Sequence[int] = defaults.SUBSETS,
    l2: float = defaults.BANK_L2,
    tol: float = defaults.BANK_TOL,
    target_tol: float = defaults.TOL,
    before: Bank | None = None,
    plain: Float[np.ndarray, "C p"] | None = None,
    memory: int | None = None,
    mesh: Mesh | None = None,
) -> Bank:
    """Fits the bank of one k, all of it in memory.

    Args:
      key: the root of the streams that are drawn from; subset s of this k depends on the key, k and s alone.
      x: normalised features of the training set.
      y: its labels, from 0 to C − 1; each class has an example.
      shots: k.
      subsets: S, or S at k = 1, 2, 4, .., whose last entry holds for all larger k. (The paper: 1000, 500, 200.)
      l2: the ridge for the mean loss of the whole training set; every head has the same ridge per example.
      tol: the gradient norm to which k-shot heads are solved.
      target_tol: the gradient norm to which θ* is solved.
      before: the bank of the previous k, from whose θ* the solver of this θ* starts.
      plain: rows of the plain head of all classes under this ridge, from which it starts where there is no previous bank. Where all classes
        have 2k examples, that head is θ*.
      memory: bytes that the heads solved at once may take on a device, by default what suits the device.
      mesh: the devices, by default all.

    Returns:
      The bank of the classes with at least 2k examples. Heads that did not converge are reported by scikit-learn's `ConvergenceWarning`.

    Raises:
      BadInput: fewer than two classes have 2k examples.
    """
    warn_unless_normalised(x)
    counts, mesh = np.bincount(y), mesh or all_devices()
    if len(shot_classes(counts, shots)) < 2:
        raise BadInput(f"shots: fewer than two classes have {2 * shots} examples or more; lower it from {shots}")
    plan = BankPlan(shots, subsets_at(shots, subsets), l2 * len(y), tol, target_tol, memory or batch_memory())
    pool, stream = bank_pool(Normalised(x, y), counts, shots, mesh), fold(key, "kshot", shots)
    chunks = [fit_heads(stream, first, pool, plan, mesh) for first in range(0, plan.subsets, chunk_size(pool.shape, plan, mesh.size))]
    theta, info = jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
    target, target_info = fit_target(pool, plan, starting_target(before, plain, pool.classes))
    warn_unless_converged(info, f"a head of k = {shots}")
    warn_unless_converged(target_info, f"θ* of k = {shots}")
    return in_memory(shots, pool.classes, theta, target)


def subsets_at(shots: int, subsets: int | Sequence[int]) -> int:
    """Returns S at k = shots; subsets: S, or S at k = 1, 2, 4, .., whose last entry holds for all larger k."""
    return subsets if isinstance(subsets, int) else subsets[min(shots.bit_length() - 1, len(subsets) - 1)]


def starting_target(
    before: Bank | None, plain: Float[np.ndarray, "C p"] | None, classes: Int[np.ndarray, " H"]
) -> Float[np.ndarray, "H p"] | None:
    """Returns the rows of θ* of the previous bank for these classes, or else those of the plain head; None if there is neither."""
    if before is None:
        return None if plain is None else plain[classes]
    return before.target[np.isin(before.classes, classes)]


def in_memory(shots: int, classes: Int[np.ndarray, " H"], theta: Float[np.ndarray, "S H p"], target: Float[np.ndarray, "H p"]) -> Bank:
    """Makes a Bank of heads in memory."""
    return Bank(shots, classes, len(theta), lambda first, stop: theta[first:stop], target)
