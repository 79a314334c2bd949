"""A method's task: a normalised training set (`data/normalisation.py`), and the heads fitted to it, each of them once."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, Key

from mmn_jax.devices import EACH, SAME, device_memory, own_devices
from mmn_jax.errors import BadInput
from mmn_jax.linear.class_model import ClassModel, ClassStatistics, Shrinkage, class_statistics, covariances, row_prior_metric, shrunk_model
from mmn_jax.linear.coordinates import Coordinates, eigen_coordinates, is_wide, span_basis, span_coordinates
from mmn_jax.linear.problem import PAD, HeadProblem, pad_examples, padded
from mmn_jax.linear.solve import ALIGNED_NEWTON, NEWTON, HeadInfo, fit_one, newton_in_blocks, solve_bytes
from mmn_jax.linear.weighting import Rule, Weighting, checked, plain
from mmn_jax.machine import one_thread
from mmn_jax.methods.progress import unheard
from mmn_jax.rng import fold
from mmn_jax.types import Knowledge, Normalised

HEADS_BYTES = 2**31  # of the heads that a task keeps
LOGITS = 2**28  # of all examples of a head, at most; where there are more, they are computed block by block, which takes less memory

SHARE = 1024  # examples of a head for each device, at least, where they are shared out: with fewer, exchanging takes as long as products

Metric = Float[np.ndarray, " d"] | Float[np.ndarray, "d r"]  # what features are multiplied by under the ridge (`linear/coordinates.py`)
Scaling = Callable[["Task"], Metric]  # computes the metric of a task's features


def unscaled(task: "Task") -> Float[np.ndarray, " d"]:
    """Returns ones: features as they are."""
    return np.ones(task.train.x.shape[1], np.float32)


def standardised(task: "Task") -> Float[np.ndarray, " d"]:
    """Returns factors that give every dimension the same variance, at unit mean square norm; 1 for constant dimensions."""
    spread = task.train.x.std(0)
    usable = spread > 1e-6 * spread.max()
    return np.where(usable, 1 / (np.where(usable, spread, 1.0) * np.sqrt(usable.sum())), 1.0).astype(np.float32)


class RowPrior(NamedTuple):
    """The Scaling under which a ridge is the row prior, learned from the classes with many examples (`class_model.row_prior_metric`)."""

    shrinkage: Shrinkage

    def __call__(self, task: "Task") -> Float[np.ndarray, "d r"]:
        """Computes the metric of a task's features, at unit mean square norm."""
        metric, x = row_prior_metric(task.model(self.shrinkage), task.statistics().span), task.train.x
        square = (((x - x.mean(0)) @ metric) ** 2).sum(1).mean()
        return (metric / np.sqrt(square if square > 0 else 1.0)).astype(np.float32)  # 0: a subsample of a tiny set that left one point


class Start(NamedTuple):
    """Rows that a solver starts from, and the step from them that it tries first (`fit_head`), if there is one."""

    theta: Float[np.ndarray, "C p"]
    ahead: Float[np.ndarray, "C p"] | None = None


def fit_weighted(
    train: Normalised,
    weighting: Weighting,
    l2: float,
    start: Start,
    tol: float,
    place: Coordinates,
) -> tuple[Float[np.ndarray, "C p"], HeadInfo]:
    """Fits one weighted head; examples of weight 0 are left out.

    Args:
      train: its examples.
      weighting: their weights and logit offsets.
      l2: the ridge, in the metric of `place`.
      start: where the solver starts.
      tol: the gradient norm to stop at.
      place: the coordinates that it is solved in; in those of `eigen_coordinates` it takes fewest products.

    Returns:
      Its rows, for the features of `train`, and how the solve ended.

    Raises:
      BadInput: the head takes more memory than there is.
    """
    used = weighting.weight > 0
    x = place.features(train.x[used]) if place.x is None else place.x[used]
    offset = weighting.offset[used] if weighting.offset.ndim == 2 else weighting.offset
    problem, size = _on_devices(HeadProblem(x, train.y[used], weighting.weight[used], offset, np.float32(l2)), len(start.theta))
    solver = ALIGNED_NEWTON if len(problem.x) >= x.shape[1] else NEWTON  # the few that a rule weights span their own coordinates
    solver = newton_in_blocks(solver, size) if size else solver
    with one_thread(x.shape[1]):
        theta = place.into(start.theta)
        ahead = np.zeros_like(theta) if start.ahead is None else place.into(start.ahead)  # never None: both share a program
        fitted, info = jax.device_get(fit_one(problem, jnp.asarray(theta), tol, solver=solver, ahead=jnp.asarray(ahead)))
    return place.out(fitted), info


def _block_size(examples: int, classes: int) -> int | None:
    """Returns the number of examples whose logits are in memory at a time; None where all of them are few enough."""
    blocks = math.ceil(examples * classes / LOGITS)
    return None if blocks == 1 else padded(math.ceil(examples / blocks))


def _on_devices(problem: HeadProblem, classes: int) -> tuple[HeadProblem, int | None]:
    """Pads a problem, and puts it on a device, or shares its examples out over all of this process.

    Where they are shared out, a sum over examples ends in a sum over devices, of an array of the size of the head, which XLA adds.

    Returns:
      The problem, and the number of examples whose logits are in memory at a time, as `_block_size` has it.

    Raises:
      BadInput: the head takes more memory than there is.
    """
    mesh, (examples, dim) = own_devices(), problem.x.shape
    each = math.ceil(examples / mesh.size)
    shared = mesh.size > 1 and examples >= SHARE * mesh.size and _block_size(each, classes) is None
    size = None if shared else _block_size(examples, classes)
    _check_memory(each if shared else examples, dim, classes, size)
    if not shared:
        return jax.device_put(pad_examples(problem, size)), size
    split, same = NamedSharding(mesh, EACH), NamedSharding(mesh, SAME)
    places = split, split, split, split if problem.offset.ndim == 2 else same, same
    return HeadProblem(*jax.device_put(tuple(pad_examples(problem, math.lcm(PAD, mesh.size))), places)), None


def _check_memory(examples: int, dim: int, classes: int, size: int | None) -> None:
    """Raises BadInput if a head of this size takes more memory than the device has."""
    needed = solve_bytes(examples, dim, classes, size)
    if needed > device_memory():
        takes = f"a head of {examples} examples and {classes} classes takes {needed / 1e9:.1f} GB of memory"
        raise BadInput(f"train_x: {takes}, there are {device_memory() / 1e9:.1f}; leave some examples of every class out")


class Head(NamedTuple):
    """The rows of a solved head, the gradient norm that the solver reached, and whether that is the one it was asked for."""

    theta: Float[np.ndarray, "C p"]
    gradient_norm: float
    converged: bool


class Task(NamedTuple):
    """A training set, and functions that compute what methods need of it, each on first use.

    counts: training examples of each class. root: the key of the run. key: draws what rules and subsamples draw. statistics() and
    model(shrinkage) describe the classes. metric(scaling) is the metric of the features. head(rule, l2, scaling) is a weighted head; it is
    looked up by the weights and offsets that its rule draws. once(name, make) keeps the result of make(), which must not depend on the
    tolerance of heads. rough: the task of the same training set with heads of a larger tolerance, from which this one's start; None if
    there is none. folds: per-fold tasks used for tuning; empty outside the final task. knowledge: what is known of the classes beside the
    training set, the same in all tasks of a run. tell(*pieces) reports which pieces of the work of a fit begin, the outermost first.
    """

    train: Normalised
    counts: Int[np.ndarray, " C"]
    root: Key[Array, ""]
    key: Key[Array, ""]
    statistics: Callable[[], ClassStatistics]
    model: Callable[[Shrinkage], ClassModel]
    metric: Callable[[Scaling], Metric]
    head: Callable[[Rule, float, Scaling], Head]
    once: Callable[[Hashable, Callable[[], Any]], Any]
    rough: "Task | None" = None
    folds: tuple["Task", ...] = ()
    knowledge: Knowledge = Knowledge()
    tell: Callable[..., None] = unheard


def _stronger(l2: float) -> float | None:
    """Returns the next power of ten above l2; None from 1e-2 on."""
    exponent = math.floor(math.log10(l2) + 1e-9) + 1
    return float(f"1e{exponent}") if exponent <= -2 else None


def _fingerprint(drawn: Weighting) -> bytes:
    return hashlib.sha256(drawn.weight.tobytes() + drawn.offset.tobytes()).digest()


def _moved_biases(
    theta: Float[np.ndarray, "C p"], drawn: Weighting, train: Normalised, counts: Int[np.ndarray, " C"]
) -> Float[np.ndarray, "C p"]:
    """Returns the plain head's rows with biases moved by the classes' weights and offsets; by offsets alone for a class without weight."""
    total = np.bincount(train.y, drawn.weight, len(counts))
    theta = theta.copy()
    theta[:, -1] += np.log(np.where(total > 0, total / counts, 1.0)) - drawn.offset
    return theta


def _memory(most: float = math.inf) -> Callable[[Hashable, Callable[[], Any]], Any]:
    """Returns once(name, make), which calls make() on the first use of a name and keeps the results of the `most` names used last."""
    made: OrderedDict[Hashable, Any] = OrderedDict()

    def once(name, make):
        if name not in made:
            made[name] = make()
        made.move_to_end(name)
        while len(made) > most:
            made.popitem(last=False)
        return made[name]

    return once


def _cold_start(task: Task, rule: Rule, drawn: Weighting, l2: float, scaling: Scaling) -> Start:
    """Returns where a head is solved from if there is no rougher one.

    A head of unscaled features starts from the one of the next stronger ridge, and extrapolates from the one before that, linearly in
    log ℓ. Every other head, or one without a stronger ridge, starts from the plain head at its own ridge, with moved biases; that head
    itself, and heads with offsets for single examples, start from zeros.
    """
    stronger = _stronger(l2)
    if scaling is unscaled and stronger is not None and drawn.offset.ndim == 1:
        theta, further = task.head(rule, stronger, unscaled).theta, _stronger(stronger)
        if further is None:
            return Start(theta)
        return Start(theta, np.float32(math.log10(stronger / l2)) * (theta - task.head(rule, further, unscaled).theta))
    is_plain = scaling is unscaled and (drawn.weight == 1).all() and not drawn.offset.any()
    if is_plain or drawn.offset.ndim == 2:
        return Start(np.zeros((len(task.counts), task.train.x.shape[1] + 1), np.float32))
    return Start(_moved_biases(task.head(plain, l2, unscaled).theta, drawn, task.train, task.counts))


def make_task(
    train: Normalised,
    root: Key[Array, ""],
    tol: float,
    rough: Task | None = None,
    knowledge: Knowledge = Knowledge(),  # noqa: B008 - a NamedTuple cannot change
) -> Task:
    """Makes a Task, whose heads are each solved once.

    The rows that a solve starts from depend on its problem alone, never on what was solved before.

    Args:
      train: the training set.
      root: the key of the run.
      tol: the gradient norm to which heads are solved.
      rough: the task of the same training set at a larger tolerance, from whose heads those of this one start.
      knowledge: what is known of the classes beside the training set.
    """
    counts, key = np.bincount(train.y), fold(root, "weighting")
    once = _memory() if rough is None else rough.once
    solved = _memory(max(16, HEADS_BYTES // (4 * len(counts) * (train.x.shape[1] + 1))))

    def place(scaling):
        if is_wide(train.x):
            return span_coordinates(metric(scaling), train.x, statistics().span)
        return eigen_coordinates(metric(scaling), train.x)

    def head(rule, l2, scaling):
        drawn = checked(rule(key, train.y, counts), len(train.y), len(counts))

        def solve():
            start = _cold_start(task, rule, drawn, l2, scaling) if rough is None else Start(rough.head(rule, l2, scaling).theta)
            theta, info = fit_weighted(train, drawn, l2, start, tol, once(("place", scaling), lambda: place(scaling)))
            return Head(theta, float(info.gradient_norm), bool(info.converged))

        return solved((_fingerprint(drawn), l2, scaling), solve)

    def statistics():
        return once("statistics", lambda: class_statistics(train, span_basis(train.x) if is_wide(train.x) else None))

    def model(shrinkage):
        return once(shrinkage, lambda: shrunk_model(once("covariances", lambda: covariances(statistics())), shrinkage))

    def metric(scaling):
        return once(scaling, lambda: scaling(task))

    task = Task(train, counts, root, key, statistics, model, metric, head, once, rough, knowledge=knowledge)
    return task
